"""``from_trainer`` against ``trainer.train()`` itself: the same losses, gradients and weights, and nothing left behind."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import HUGGING_FACE
from tokenizers import Tokenizer, models
from torch import Tensor, nn
from torch.utils.data import IterableDataset
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import lrfinder
from hessian import Problem
from hessian.nested import Window
from hessian.step import train_step
from lrfinder.integrations.transformers import from_trainer

LR = 1e-3
OBJECTS = ("model", "compute_loss_func", "model_init", "optimizers", "processing_class")
STEP_KEYWORDS = ("model", "optimizer", "data", "loss_fn", "accumulate", "autocast", "scaler", "clip_norm")


def make_trainer(folder: Path, name: str = "bert", kind: type[Trainer] = Trainer, dropout: float = 0.1, count: int = 22, **options: Any):
    """The same trainer every time: 22 samples make five batches of four and one of two."""
    model, samples, collate = HUGGING_FACE[name]
    own = {key: options.pop(key) for key in OBJECTS if key in options}
    arguments = {"learning_rate": LR, "seed": 0, "use_cpu": True, "per_device_train_batch_size": 4, "lr_scheduler_type": "constant"}
    quiet = {"report_to": [], "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
    args = TrainingArguments(str(folder), **{**arguments, **quiet, "remove_unused_columns": False, **options})
    torch.manual_seed(0)
    if "model_init" not in own:
        own.setdefault("model", model(dropout))
    return kind(args=args, train_dataset=samples(count), data_collator=collate, **own)


class Record(TrainerCallback):
    """The gradients of every step as the optimizer gets them, and the weights after it."""

    def __init__(self) -> None:
        self.gradients: list[list[Tensor]] = []
        self.weights: list[list[Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        self.gradients.append(gradients(model))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: nn.Module, **_: Any) -> None:
        self.weights.append(weights(model))


def gradients(model: nn.Module) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def weights(model: nn.Module) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in model.state_dict().values()]


def theirs(trainer: Trainer, steps: int) -> tuple[float, list[list[Tensor]], list[list[Tensor]]]:
    """Mean loss, gradients and weights of ``train()``."""
    record = Record()
    trainer.add_callback(record)
    trainer.args.max_steps = steps
    torch.manual_seed(0)
    return trainer.train().training_loss, record.gradients, record.weights


def ours(trainer: Trainer, steps: int) -> tuple[float, list[list[Tensor]], list[list[Tensor]]]:
    """The same of the steps that ``find_lr`` makes."""
    torch.manual_seed(0)
    arguments = from_trainer(trainer)
    problem = Problem(**{name: arguments[name] for name in STEP_KEYWORDS})
    found: tuple[list[list[Tensor]], list[list[Tensor]]] = ([], [])
    problem.optimizer.register_step_pre_hook(lambda *_: found[0].append(gradients(problem.model)))
    problem.optimizer.register_step_post_hook(lambda *_: found[1].append(weights(problem.model)))
    losses = [train_step(problem, batch) for batch in islice(problem.batches, steps)]
    return sum(losses) / steps, *found


def assert_same_steps(make: Callable[[], Trainer], steps: int, **tolerance: float) -> None:
    tolerance = {"rtol": 0, "atol": 0, **tolerance}
    loss, grads, after = theirs(make(), steps)
    our_loss, our_grads, our_after = ours(make(), steps)
    assert our_loss == pytest.approx(loss, rel=1e-6)  # float32, summed in another order
    assert (len(grads), len(our_grads)) == (steps, steps)
    for mine, true in zip([*our_grads, *our_after], [*grads, *after], strict=True):
        torch.testing.assert_close(mine, true, **tolerance)


@pytest.mark.parametrize("accumulation", [1, 4])  # of six batches: six windows, or one and a half
@pytest.mark.parametrize("name", HUGGING_FACE)
def test_steps_are_those_of_train_bit_for_bit(name: str, accumulation: int, tmp_path: Path):
    options = {"gradient_accumulation_steps": accumulation, "max_grad_norm": 0.0}
    assert_same_steps(lambda: make_trainer(tmp_path, name, **options), 2)


def test_steps_are_those_of_train_with_its_usual_clipping(tmp_path: Path):
    def make() -> Trainer:
        return make_trainer(tmp_path, "gpt2", gradient_accumulation_steps=3, max_grad_norm=0.01, optim="sgd")

    assert from_trainer(make_trainer(tmp_path))["clip_norm"] == 1.0
    assert_same_steps(make, 2, rtol=1e-5, atol=1e-9)  # the norm is summed over the optimizer's groups, not in the order of the model


def test_without_the_count_of_items_steps_are_others(tmp_path: Path):
    make = partial(make_trainer, tmp_path, "gpt2", gradient_accumulation_steps=3, max_grad_norm=0.0)
    (true,) = theirs(make(), 1)[1]
    torch.manual_seed(0)
    arguments = from_trainer(make())
    windows = [Window(micro.inputs for micro in window) for window in arguments["data"]]
    problem = Problem(arguments["model"], arguments["optimizer"], windows)
    problem.loss(windows[0]).backward()
    largest = max(float((mine - one).abs().max()) for mine, one in zip(gradients(problem.model), true, strict=True))
    assert largest > 1e-3  # texts of several lengths: each character counts the same in train(), each micro-batch here


class OwnLoss(Trainer):
    """Keeps statistics, logs, and changes the loss."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: dict[str, list[float]] = {"loss": []}
        self.calls = 0

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, **more: Any) -> Any:
        loss = 3 * super().compute_loss(model, inputs, **more)
        self.calls += 1
        self.seen["loss"].append(loss.item())
        self.log({"own": loss.item()})
        return loss


class OwnStep(Trainer):
    """A step around the usual one."""

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *more: Any) -> Tensor:
        return super().training_step(model, {**inputs, "input_ids": inputs["input_ids"].clamp(max=100)}, *more)


class OwnScale(OwnLoss):
    """Says itself that its loss is no share of the window's."""

    loss_is_scaled_for_ga = False


def doubled(outputs: Any, labels: Tensor, num_items_in_batch: Any = None) -> Tensor:
    """A loss that wants the count of items."""
    total = nn.functional.cross_entropy(outputs.logits.flatten(0, -2), labels.flatten(), ignore_index=-100, reduction="sum")
    return 2 * total / num_items_in_batch


VARIANTS: dict[str, dict[str, Any]] = {
    "own compute_loss": {"kind": OwnLoss},
    "own compute_loss that is a mean": {"kind": OwnScale},
    "own training_step": {"kind": OwnStep},
    "label smoothing": {"label_smoothing_factor": 0.2},
    "label smoothing of texts": {"label_smoothing_factor": 0.2, "name": "gpt2"},
    "compute_loss_func": {"compute_loss_func": doubled, "name": "gpt2"},
    "own count for every device": {"average_tokens_across_devices": False, "name": "gpt2"},
    "NEFTune": {"neftune_noise_alpha": 5.0, "name": "gpt2"},
    "bfloat16": {"bf16": True, "name": "gpt2"},
    "bfloat16 and a loss outside": {"bf16": True, "compute_loss_func": doubled, "name": "gpt2"},
    "decayed weights": {"weight_decay": 0.3, "optim": "adafactor"},
    "SGD": {"optim": "sgd"},
    "Schedule-Free": {"optim": "schedule_free_adamw"},
    "a short last batch left out": {"dataloader_drop_last": True},
    "a last window that is one short batch, left out": {"dataloader_drop_last": True, "count": 25, "steps": 2},
    "lengths together": {"train_sampling_strategy": "group_by_length"},
    "lengths shared out": {"train_sampling_strategy": "batch_rebalance"},
    "batches in order": {"train_sampling_strategy": "sequential"},
    "two workers": {"dataloader_num_workers": 2},
    "a global shuffle": {"accelerator_config": {"use_seedable_sampler": False}},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_steps_are_those_of_train_also_with(variant: str, tmp_path: Path):
    options = {"gradient_accumulation_steps": 3, "max_grad_norm": 0.0, **VARIANTS[variant]}
    steps = options.pop("steps", 2)
    assert_same_steps(partial(make_trainer, tmp_path, **options), steps)


class Stream(IterableDataset[Any]):
    """Samples that come one after the other."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[Any]:
        return iter(self.samples)


@pytest.mark.parametrize("accumulation", [1, 3])
def test_steps_are_those_of_train_with_a_stream(accumulation: int, tmp_path: Path):
    def make() -> Trainer:
        trainer = make_trainer(tmp_path, "gpt2", gradient_accumulation_steps=accumulation, max_steps=2, max_grad_norm=0.0)
        trainer.train_dataset = Stream(trainer.train_dataset)
        return trainer

    assert_same_steps(make, 2)


def test_what_is_left_of_a_stream_is_no_step(tmp_path: Path):
    trainer = make_trainer(tmp_path, gradient_accumulation_steps=4, max_steps=2)
    trainer.train_dataset = Stream(trainer.train_dataset)
    assert [len(window) for window in from_trainer(trainer)["data"]] == [4]  # of six batches


# What find_lr gets --------------------------------------------------------------------------------------------------------------------

PLANS = [
    ({"num_train_epochs": 3}, 18),
    ({"num_train_epochs": 2.5}, 15),
    ({"max_steps": 7}, 7),
    ({"num_train_epochs": 3, "gradient_accumulation_steps": 4}, 6),
    ({"num_train_epochs": 2, "dataloader_drop_last": True}, 10),
    ({"num_train_epochs": 2, "train_sampling_strategy": "batch_rebalance", "gradient_accumulation_steps": 4}, 4),
]


@pytest.mark.parametrize(("plan", "steps"), PLANS)
def test_the_length_is_that_of_train(plan: dict[str, Any], steps: int, tmp_path: Path):
    trainer = make_trainer(tmp_path, **plan)
    assert from_trainer(trainer)["total_steps"] == steps
    trainer.train()
    assert trainer.state.max_steps == trainer.state.global_step == steps


@pytest.mark.parametrize(
    ("kind", "schedule"),
    [("linear", "linear"), ("cosine", "cosine"), ("constant", "constant"), ("constant_with_warmup", "constant"), ("inverse_sqrt", None)],
)
def test_the_schedule_is_that_of_train(kind: str, schedule: str | None, tmp_path: Path):
    assert from_trainer(make_trainer(tmp_path, lr_scheduler_type=kind))["schedule"] == schedule


def test_a_scheduler_of_the_users_own_is_an_unknown_schedule(tmp_path: Path):
    model = HUGGING_FACE["bert"][0]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    trainer = make_trainer(tmp_path, optimizers=(optimizer, scheduler), model=model)
    arguments = from_trainer(trainer)
    assert arguments["schedule"] is None
    assert arguments["optimizer"] is optimizer


def test_optimizer_and_weight_decay_are_those_of_train(tmp_path: Path):
    optimizer = from_trainer(make_trainer(tmp_path, weight_decay=0.3, learning_rate=2e-3))["optimizer"]
    assert type(optimizer) is torch.optim.AdamW
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(2e-3, 0.3), (2e-3, 0.0)]


def test_arguments_can_be_added_and_replaced(tmp_path: Path):
    mine = torch.Generator()
    arguments = from_trainer(make_trainer(tmp_path), budget="quick", total_steps=5, keep=[mine])
    assert (arguments["budget"], arguments["total_steps"]) == ("quick", 5)
    assert arguments["keep"][-1] is mine
    assert set(arguments) <= set(inspect.signature(lrfinder.find_lr).parameters)


def test_model_init_gives_the_model_that_train_makes(tmp_path: Path):
    made: list[nn.Module] = []

    def model_init() -> nn.Module:
        made.append(HUGGING_FACE["bert"][0]())
        return made[-1]

    trainer = make_trainer(tmp_path, model_init=model_init, max_steps=1)
    trainer.train()  # its model has moved on
    model = from_trainer(trainer)["model"]
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trainer.args.learning_rate = 0.0
    trainer.train()
    torch.testing.assert_close(fresh, dict(trainer.model.state_dict()), rtol=0, atol=0)
    assert model is not trainer.model


def tokenizer() -> PreTrainedTokenizerFast:
    words = {chr(code): code for code in range(1, 127)} | {"<pad>": 0}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="?")), pad_token="<pad>")


def test_special_tokens_are_aligned_as_in_train_and_only_within_a_loss(tmp_path: Path):
    shape = {"n_positions": 24, "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 128, "num_labels": 6}
    kind = "single_label_classification"

    def make() -> Trainer:
        torch.manual_seed(0)
        model = GPT2ForSequenceClassification(GPT2Config(**shape, bos_token_id=None, eos_token_id=None, problem_type=kind))
        return make_trainer(tmp_path, processing_class=tokenizer(), model=model, max_grad_norm=0.0)

    trainer = make()
    before = copy.deepcopy(vars(trainer.model.config))
    from_trainer(trainer)
    ours(trainer, 1)
    assert vars(trainer.model.config) == before  # without a padding token, which this model cannot do without
    assert_same_steps(make, 2)


# What is left -------------------------------------------------------------------------------------------------------------------------


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Everything a trainer and its accelerator hold, by identity; containers also by what is in them."""
    found: dict[str, Any] = {"random": torch.get_rng_state().tolist()}
    for owner in (
        trainer,
        trainer.accelerator,
        trainer.accelerator.gradient_state,
        trainer.model,
        trainer.model.config,
        trainer.args,
        trainer.state,
    ):
        for name, value in vars(owner).items():
            known = value if isinstance(value, (list, dict, bool, int, float, str)) and name != "train_dataset" else id(value)
            found[f"{type(owner).__name__}.{name}"] = repr(known)
    return found


@pytest.mark.parametrize("kind", [Trainer, OwnLoss])
def test_nothing_is_changed_but_the_mode_of_the_model(kind: type[Trainer], tmp_path: Path):
    trainer = make_trainer(tmp_path, kind=kind, gradient_accumulation_steps=2, neftune_noise_alpha=1.0)
    trainer.model.train()
    before = state_of(trainer), weights(trainer.model)
    found = lrfinder.find_lr(**from_trainer(trainer, budget=60, curvature=False))
    assert state_of(trainer) == before[0]
    torch.testing.assert_close(weights(trainer.model), before[1], rtol=0, atol=0)
    assert trainer.optimizer is None
    assert found.lr > 0


def test_a_model_in_eval_mode_is_trained_in_train_mode_as_train_does(tmp_path: Path):
    trainer = make_trainer(tmp_path)
    trainer.model.eval()
    assert from_trainer(trainer)["model"].training


def test_scores_are_taken_in_eval_mode(tmp_path: Path):
    arguments = from_trainer(make_trainer(tmp_path, dropout=0.5))
    batch = next(iter(arguments["data"]))
    model = arguments["model"].eval()
    assert arguments["loss_fn"](model, batch).item() == arguments["loss_fn"](model, batch).item()
    assert not model.training
    model.train()
    assert arguments["loss_fn"](model, batch).item() != arguments["loss_fn"](model, batch).item()


@pytest.mark.parametrize("bf16", [False, True])
def test_training_after_find_lr_is_that_without_it_bit_for_bit(bf16: bool, tmp_path: Path):
    def trained(*, find: bool) -> list[list[Tensor]]:
        trainer = make_trainer(tmp_path, "gpt2", gradient_accumulation_steps=2, lr_scheduler_type="linear", max_steps=3, bf16=bf16)
        after = []
        for _ in range(2):  # before the first training, and between two
            if find:
                lrfinder.find_lr(**from_trainer(trainer, budget=60))
            trainer.train()
            after.append(weights(trainer.model))
        return after

    torch.testing.assert_close(trained(find=True), trained(find=False), rtol=0, atol=0)


def test_after_a_training_steps_are_those_of_the_next(tmp_path: Path):
    def make() -> Trainer:
        trainer = make_trainer(tmp_path, "gpt2", max_steps=2, max_grad_norm=0.0, bf16=True, lr_scheduler_type="linear")
        trainer.train()
        return trainer

    def restarted() -> Trainer:  # train() begins a new schedule at the base LR
        trainer = make()
        for group in trainer.optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        return trainer

    loss, grads, after = theirs(make(), 1)
    our_loss, our_grads, our_after = ours(restarted(), 1)
    assert our_loss == pytest.approx(loss, rel=1e-6)
    torch.testing.assert_close([our_grads, our_after], [grads, after], rtol=0, atol=0)


def test_curvature_is_measured_in_full_precision_also_after_a_training_in_bfloat16(tmp_path: Path):
    trainer = make_trainer(tmp_path, "gpt2", bf16=True, max_steps=1, dropout=0.0)
    trainer.train()
    arguments = from_trainer(trainer)
    model, batch = arguments["model"], next(iter(arguments["data"]))
    full = arguments["loss_fn"](model, batch)
    with arguments["autocast"]():
        low = arguments["loss_fn"](model, batch)
    plain = HUGGING_FACE["gpt2"][0](0.0)
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(full, plain(**batch, num_items_in_batch=batch["labels"].ne(-100).sum()).loss, rtol=1e-6, atol=0)
    assert low.item() != full.item()


def test_the_learning_rate_is_found_and_used(tmp_path: Path):
    trainer = make_trainer(tmp_path, "gpt2", count=48, max_steps=8)
    trainer.args.learning_rate = lrfinder.find_lr(**from_trainer(trainer, budget=100)).lr
    assert 1e-4 < trainer.args.learning_rate < 1
    first = trainer.evaluate(trainer.train_dataset)["eval_loss"]
    trainer.train()
    assert trainer.evaluate(trainer.train_dataset)["eval_loss"] < first


def test_validation_data_are_batches_of_the_trainer(tmp_path: Path):
    trainer = make_trainer(tmp_path, "gpt2", gradient_accumulation_steps=2)
    trainer.eval_dataset = trainer.train_dataset[:8]
    found = lrfinder.find_lr(**from_trainer(trainer, budget=60, curvature=False, val_data=trainer.get_eval_dataloader()))
    assert found.confirmation is not None
    assert found.confirmation.scored_on == "val_data"


# What is refused ------------------------------------------------------------------------------------------------------------------------


class TwoBackwards(Trainer):
    """An adversarial training, with a second backward pass."""

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        super().training_step(*args, **kwargs)
        return super().training_step(*args, **kwargs)


def test_a_step_with_two_backward_passes_is_refused(tmp_path: Path):
    arguments = from_trainer(make_trainer(tmp_path, kind=TwoBackwards))
    with pytest.raises(ValueError, match=r"TwoBackwards.training_step called accelerator.backward 2 times .* lrfinder.LRSweep"):
        lrfinder.find_lr(**arguments)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("torch_compile", True, "torch_compile=True compiles"),
        ("use_liger_kernel", True, "use_liger_kernel=True replaces"),
        ("_n_gpu", 2, "CUDA_VISIBLE_DEVICES=0"),
        ("optim", "adalomo", "inside backward"),
    ],
)
def test_what_cannot_be_followed_is_refused(name: str, value: Any, words: str, tmp_path: Path):
    trainer = make_trainer(tmp_path)
    setattr(trainer.args, name, value)
    with pytest.raises(ValueError, match=words):
        from_trainer(trainer)


def test_what_is_no_trainer_is_refused():
    with pytest.raises(TypeError, match=r"trainer is a Linear, not a transformers.Trainer; pass the one"):
        from_trainer(nn.Linear(1, 1))
