"""Find the learning rate of a transformers.Trainer, then train with it: a small BERT that tells modules by lines of their source."""

import argparse
import difflib
import inspect
import pickletools
import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

import lrfinder
from lrfinder.integrations.transformers import from_trainer

samples = []
for label, module in enumerate((argparse, difflib, pickletools)):
    for line in [line.strip() for line in inspect.getsource(module).splitlines() if len(line) > 40][:250]:
        letters = line.encode("ascii", "replace")[:48].ljust(48, b"\0")
        samples.append({"input_ids": list(letters), "attention_mask": [int(letter > 0) for letter in letters], "labels": label})

torch.manual_seed(0)
shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
model = BertForSequenceClassification(BertConfig(vocab_size=128, max_position_embeddings=48, num_labels=3, **shape))
where = {"output_dir": tempfile.mkdtemp(), "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
args = TrainingArguments(num_train_epochs=8, per_device_train_batch_size=16, gradient_accumulation_steps=2, use_cpu=True, **where)
train, val = [sample for number, sample in enumerate(samples) if number % 4], samples[::4]
trainer = Trainer(model, args, train_dataset=train, eval_dataset=val)

found = lrfinder.find_lr(**from_trainer(trainer, budget="quick"))
print(found)
trainer.args.learning_rate = found.lr
trainer.train()
right = trainer.predict(val).predictions.argmax(1) == [sample["labels"] for sample in val]
print(f"val accuracy {right.mean():.3f}")
