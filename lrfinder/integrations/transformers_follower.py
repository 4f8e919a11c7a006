"""The loss, step and batches of a ``transformers.Trainer``, on copies of the trainer and its accelerator."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerBase, ProcessorMixin, Trainer
from transformers.integrations.neftune import activate_neftune, deactivate_neftune
from transformers.trainer_utils import align_special_tokens

from hessian.batches import length_of
from hessian.errors import BadArgument, BadType
from hessian.nested import Window
from hessian.snapshot import seed_everything
from lrfinder.integrations.accelerate import (
    MixedForward,
    bare_loader,
    bare_optimizer,
    is_plain,
    rebatched,
    refuse_what_cannot_be_followed,
    replaced,
)

SCHEDULES = {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}

REFUSED = (  # what train() does to the model or the step that cannot be done and undone around one loss
    (lambda args: args.n_gpu > 1, "the Trainer would share each batch among several GPUs (DataParallel); set CUDA_VISIBLE_DEVICES=0."),
    (lambda args: args.torch_compile, "torch_compile=True compiles the model in train(); find the learning rate without it."),
    (lambda args: args.use_liger_kernel, "use_liger_kernel=True replaces layers in train(); find the learning rate without it."),
    (lambda args: "lomo" in args.optim or "layerwise" in args.optim, "this optim steps inside backward(), so it cannot be followed."),
)


def check_trainer(trainer: Any) -> None:
    """Refuse what is no ``Trainer``, and one whose ``train()`` would do what cannot be followed."""
    if not isinstance(trainer, Trainer):
        raise BadType(f"trainer is a {type(trainer).__name__}, not a transformers.Trainer; pass the one whose train() you would call.")
    refuse_what_cannot_be_followed(trainer.accelerator)
    for applies, sentence in REFUSED:
        if applies(trainer.args):
            raise BadArgument(sentence)


class MicroBatch(NamedTuple):
    """Inputs of one forward pass, and of all in the same optimizer step, whose items are counted together."""

    inputs: Mapping[str, Any]
    window: tuple[Mapping[str, Any], ...]


def window_of(inputs: tuple[Mapping[str, Any], ...]) -> Window:
    return Window(MicroBatch(each, inputs) for each in inputs)


class Follower:
    """Does what a trainer would do, on copies of the trainer and its accelerator: what their code sets is set on the copies."""

    def __init__(self, trainer: Trainer) -> None:
        self.args = trainer.args
        self.own_schedule = trainer.lr_scheduler is not None and not trainer._created_lr_scheduler
        self.trainer = copy.copy(trainer)
        self.trainer.accelerator = copy.copy(trainer.accelerator)
        self.trainer.accelerator._dataloaders = []
        self.trainer.log = ignore
        self.trainer.is_in_train = True
        if trainer.model_init is not None:
            self._make_model()
        self.model: nn.Module = trainer_mode(self.trainer.model)
        self.optimizer = trainer_mode(bare_optimizer(self.trainer.create_optimizer()))
        self.trainer.optimizer = None  # training_step would put it into train mode, also where a loss is only scored
        self.data = self._data()
        self.trainer.train_dataset = self.trainer.eval_dataset = None  # not to be copied with what must come back
        self.tokens = aligned_tokens(self.model, trainer.processing_class)
        self.mixed = MixedForward(trainer.accelerator)

    def _make_model(self) -> None:
        seed_everything(self.args.seed)
        self.trainer.model = self.trainer.model_wrapped = self.trainer.call_model_init()
        self.trainer.optimizer = self.trainer.lr_scheduler = None
        if self.trainer.place_model_on_device:
            self.trainer._move_model_to_device(self.trainer.model, self.args.device)

    def _data(self) -> Any:
        """Batches as ``train()`` sees them, or windows of them."""
        loader = bare_loader(self.trainer.get_train_dataloader())
        many = self.args.gradient_accumulation_steps
        if many == 1:
            return loader
        return loader_of_windows(loader, many) if is_plain(loader) else Windows(loader, many)

    def arguments(self) -> dict[str, Any]:
        args, accelerator = self.args, self.trainer.accelerator
        return {
            "model": self.model,
            "optimizer": self.optimizer,
            "data": self.data,
            "loss_fn": self.mixed.around(self.loss),
            "accumulate": args.gradient_accumulation_steps,
            "autocast": self.mixed if accelerator.native_amp else None,
            "scaler": accelerator.scaler,
            "clip_norm": args.max_grad_norm if args.max_grad_norm > 0 else None,
            "total_steps": int(args.max_steps) if args.max_steps > 0 else math.ceil(args.num_train_epochs * len(self.data)),
            "schedule": None if self.own_schedule else SCHEDULES.get(str(getattr(kind := args.lr_scheduler_type, "value", kind))),
            "keep": [self.trainer, *configs_of(self.model)],  # some models write into theirs
        }

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """What ``training_step`` would run backward, times the number of such losses in a step: the mean is taken here, the sum there."""
        micro, losses = batch if isinstance(batch, MicroBatch) else MicroBatch(batch, (batch,)), list[Tensor]()
        self.trainer.accelerator.backward = lambda loss, **_: losses.append(loss)
        self.trainer.current_gradient_accumulation_steps = len(micro.window)
        with ExitStack() as stack:
            stack.enter_context(replaced(model, train=ignore))  # as it stands: scores are taken in eval mode
            for owner, changes in self.tokens:
                stack.enter_context(replaced(owner, **changes))
            if self.trainer.neftune_noise_alpha is not None:
                handle = activate_neftune(model, self.trainer.neftune_noise_alpha, self.trainer.accelerator)
                stack.callback(deactivate_neftune, model, handle, self.trainer.accelerator)
            items = self.trainer.get_batch_samples(iter(micro.window), len(micro.window), self.args.device)[1]
            self.trainer.training_step(model, micro.inputs, items)
        if len(losses) != 1:
            raise BadArgument(
                f"{type(self.trainer).__name__}.training_step called accelerator.backward {len(losses)} times for one batch, and once is "
                "what can be followed; write your loss as compute_loss, or sweep with lrfinder.LRSweep around your own step."
            )
        return losses[0] if len(micro.window) == 1 else len(micro.window) * losses[0]


def ignore(*args: Any, **kwargs: Any) -> None:
    """Do nothing."""


def trainer_mode(trained: Any) -> Any:
    """A model, or an optimizer that has modes, in train mode."""
    if callable(getattr(trained, "train", None)):
        trained.train()
    return trained


def configs_of(model: Any) -> list[Any]:
    """Those that tokens are looked up in."""
    generation = getattr(model, "generation_config", None)
    return [*([model.config.get_text_config()] if hasattr(model, "config") else []), *([generation] if generation else [])]


def aligned_tokens(model: Any, processor: Any) -> list[tuple[Any, dict[str, Any]]]:
    """What ``train()`` changes in the model's configs where its tokenizer has other special tokens; undone here, and not told."""
    if not isinstance(processor, (PreTrainedTokenizerBase, ProcessorMixin)) or not hasattr(model, "config"):
        return []
    owners, changed = configs_of(model), []
    before = [dict(vars(owner)) for owner in owners]
    with replaced(logging.getLogger(align_special_tokens.__module__), disabled=True):
        align_special_tokens(model, processor)
    for owner, values in zip(owners, before, strict=True):
        changed.append((owner, {name: value for name, value in vars(owner).items() if name not in values or values[name] != value}))
        vars(owner).update(values)
    return changed


def loader_of_windows(loader: DataLoader[Any], many: int) -> DataLoader[Any]:
    """A loader of windows. ``drop_last`` leaves out the last micro-batch if it is short, not the last window."""
    batches: Any = loader.batch_sampler
    size, drops = batches.batch_size, batches.drop_last
    nothing_left = len(batches.sampler) % (many * size) < size  # of the last window
    return rebatched(loader, many * size, collate_fn=Collate(loader.collate_fn, size, drops), drop_last=drops and nothing_left)


@dataclass(frozen=True)
class Collate:
    """The samples of a window as its micro-batches; a class, so that workers can be sent one."""

    collate_fn: Callable[[Any], Any]
    size: int
    drop_last: bool

    def __call__(self, samples: list[Any]) -> Window:
        parts = [samples[start : start + self.size] for start in range(0, len(samples), self.size)]
        if self.drop_last and len(parts) > 1 and len(parts[-1]) < self.size:
            del parts[-1]
        return window_of(tuple(self.collate_fn(part) for part in parts))


class Windows:
    """The windows of a stream, or of a loader with batches of its own making."""

    def __init__(self, loader: DataLoader[Any], many: int) -> None:
        self.loader, self.many = loader, many
        self.dataset, self.batch_sampler = loader.dataset, loader.batch_sampler  # to be left alone, and put back

    def __iter__(self) -> Iterator[Window]:
        source, known = iter(self.loader), length_of(self.loader) is not None
        while inputs := tuple(islice(source, self.many)):
            if known or len(inputs) == self.many:  # train() makes no step of what is left of a stream
                yield window_of(inputs)

    def __len__(self) -> int:
        return math.ceil(len(self.loader) / self.many)
