"""All that must be as before, whatever happened: the fingerprint of the model and its training, and of the process around them."""

from __future__ import annotations

import os
import signal
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from oracles import bits, fingerprint
from subjects import Subject
from torch import nn

GLOBAL_GENERATORS = ("torch generator", "numpy generator", "python generator")


def digest(subject: Subject) -> dict[str, str]:
    """Everything, by name; the first words of a name say of what kind it is (``KINDS``)."""
    model, optimizer = subject.model, subject.optimizer
    return {
        **fingerprint(model, optimizer, [subject.loader]),
        "optimizer state": repr([(id(optimizer.state), id(key), id(entry)) for key, entry in optimizer.state.items()]),
        **{name: repr(hooks) for name, hooks in hooks_of(model, optimizer)},
        "scheduler": "" if subject.scheduler is None else bits(plain(vars(subject.scheduler))),
        **surroundings(),
    }


def hooks_of(model: nn.Module, optimizer: Any) -> Iterator[tuple[str, list[Any]]]:
    for name, module in model.named_modules():
        yield f"hooks of module {name}", hook_ids(module)
    for name, parameter in model.named_parameters():
        yield f"hooks of parameter {name}", [list(parameter._backward_hooks or ()), list(parameter._post_accumulate_grad_hooks or ())]
    yield "hooks of optimizer", [*hook_ids(optimizer), id(vars(optimizer).get("step"))]  # a scheduler wraps it


def hook_ids(owner: Any) -> list[Any]:
    """Which hooks an object has, in all of its dictionaries of them."""
    return [
        (name, [(key, id(hook)) for key, hook in hooks.items()]) for name, hooks in sorted(vars(owner).items()) if name.endswith("_hooks")
    ]


def plain(attributes: dict[str, Any]) -> dict[str, Any]:
    """Without what is an object of its own, whose text is its place in memory."""
    return {name: value for name, value in attributes.items() if name != "optimizer" and not callable(value)}


def surroundings() -> dict[str, str]:
    """The process and the folders it may write to."""
    return {
        "grad mode": repr((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"))),
        "default dtype": repr((torch.get_default_dtype(), torch.get_default_device())),
        "deterministic flags": repr((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic)),
        "kernel flags": repr((sdp_flags(), torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark)),
        "warnings filters": repr(warnings.filters),
        "ctrl-c handler": repr(id(signal.getsignal(signal.SIGINT))),
        "cwd": os.getcwd(),
        "files": repr([files_in(Path(folder)) for folder in (os.getcwd(), tempfile.gettempdir())]),
    }


def files_in(folder: Path) -> list[str]:
    """All but the sockets of multiprocessing: any loader with workers makes them, and they go with the process."""
    return sorted(str(path) for path in folder.rglob("*") if not any(part.startswith("pymp-") for part in path.parts))


def sdp_flags() -> tuple[bool, ...]:
    """Which attention kernels are allowed."""
    backends = torch.backends.cuda
    return (backends.flash_sdp_enabled(), backends.mem_efficient_sdp_enabled(), backends.math_sdp_enabled())
