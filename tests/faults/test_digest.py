"""The digest sees every single thing that it is said to hold: each is spoiled once."""

from __future__ import annotations

import os
import random
import re
import signal
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from digest import GLOBAL_GENERATORS, digest
from oracles import differences
from subjects import OPTIMIZERS, Subject, make_subject
from torch import nn

KIND = OPTIMIZERS["adam mid-training onecycle"]
Spoil = Callable[[Subject], object]


def of_kind(name: str) -> str:
    """``"parameter"`` for ``"parameter first.weight"``, ``"group lr"`` for ``"group 0 lr"``."""
    named = re.match(r"(parameter|gradient|buffer|hooks of module|hooks of parameter|module)\b", name)
    return named.group() if named else re.sub(r" [\d.]+", "", name)


def first_state(subject: Subject) -> dict[str, torch.Tensor]:
    return subject.optimizer.state[subject.model.first.weight]


def same_values_elsewhere(subject: Subject) -> None:
    subject.model.first.weight.data = subject.model.first.weight.data.clone()


def another_parameter(subject: Subject) -> None:
    subject.model.first.weight = nn.Parameter(subject.model.first.weight.detach())


def state_as_copies(subject: Subject) -> None:
    state = first_state(subject)
    state["exp_avg"] = state["exp_avg"].clone()


def state_as_a_plain_dict(subject: Subject) -> None:
    subject.optimizer.state = dict(subject.optimizer.state)


def gradient_as_a_copy(subject: Subject) -> None:
    subject.model.first.weight.grad = subject.model.first.weight.grad.clone()


def gradient_where_none_was(subject: Subject) -> None:
    subject.model.first.bias.grad = torch.zeros_like(subject.model.first.bias)


def lr_in_place(subject: Subject) -> None:
    subject.optimizer.param_groups[0]["lr"] *= 1 + 1e-15


def another_batch_norm(subject: Subject) -> None:
    subject.model.seen = subject.model.seen.clone()


def forget(subject: Subject) -> None:
    del subject.optimizer.state[subject.model.last.bias]


SPOILS: list[tuple[str, Spoil]] = [
    ("parameter", lambda s: s.model.first.weight.data[0, 0].mul_(1 + 1e-6)),
    ("parameter", lambda s: s.model.frozen.weight.data[0, 0].neg_()),
    ("parameter", same_values_elsewhere),
    ("parameter", another_parameter),
    ("parameter", lambda s: s.model.frozen.weight.requires_grad_(True)),
    ("gradient", lambda s: s.model.first.weight.grad.mul_(2)),
    ("gradient", gradient_as_a_copy),
    ("gradient", gradient_where_none_was),
    ("gradient", lambda s: s.model.zero_grad()),
    ("buffer", lambda s: s.model.norm.running_mean.add_(1e-3)),
    ("buffer", lambda s: s.model.total.add_(1)),
    ("buffer", another_batch_norm),
    ("module", lambda s: setattr(s.model, "calls", s.model.calls + 1)),
    ("module", lambda s: setattr(s.model, "appeared", None)),
    ("module", lambda s: s.model.recent.add_(1)),
    ("module", lambda s: s.model.frozen.train()),
    ("module", lambda s: setattr(s.model.drop, "p", 0.3)),
    ("groups", lambda s: s.optimizer.param_groups.append({"params": []})),
    ("group", lambda s: s.optimizer.param_groups[0].update(weight_decay=0.1)),
    ("group", lambda s: s.optimizer.param_groups[0].update(extra=None)),
    ("group lr", lr_in_place),
    ("group members", lambda s: s.optimizer.param_groups[0]["params"].reverse()),
    ("state", lambda s: first_state(s)["exp_avg"].add_(1e-3)),
    ("state", state_as_copies),
    ("state", lambda s: first_state(s).update(extra=1)),
    ("state", forget),
    ("optimizer state", state_as_a_plain_dict),
    ("optimizer state", lambda s: s.optimizer.state.update({s.model.first.weight: dict(first_state(s))})),
    ("optimizer attributes", lambda s: setattr(s.optimizer, "notes", 1)),
    ("scheduler", lambda s: s.scheduler.step()),
    ("scheduler", lambda s: setattr(s.scheduler, "last_epoch", 0)),
    ("loader loader generator", lambda s: s.loader.generator.manual_seed(3)),
    ("loader sampler generator", lambda s: torch.randperm(3, generator=s.loader.sampler.generator)),
    ("loader workers", lambda s: setattr(s.loader, "_iterator", iter(()))),
    ("torch generator", lambda s: torch.rand(())),
    ("numpy generator", lambda s: np.random.random()),
    ("python generator", lambda s: random.random()),
    ("hooks of module", lambda s: s.model.last.register_forward_hook(print)),
    ("hooks of module", lambda s: s.model.norm._forward_hooks.clear()),
    ("hooks of module", lambda s: s.model.register_load_state_dict_post_hook(print)),
    ("hooks of parameter", lambda s: s.model.first.weight.register_hook(print)),
    ("hooks of parameter", lambda s: s.model.first.weight.register_post_accumulate_grad_hook(print)),
    ("hooks of optimizer", lambda s: s.optimizer.register_step_post_hook(print)),
    ("hooks of optimizer", lambda s: setattr(s.optimizer, "step", type(s.optimizer).step)),
    ("grad mode", lambda s: torch.set_grad_enabled(False)),
    ("grad mode", lambda s: torch.set_autocast_enabled("cpu", True)),
    ("default dtype", lambda s: torch.set_default_dtype(torch.float64)),
    ("deterministic flags", lambda s: torch.use_deterministic_algorithms(True)),
    ("kernel flags", lambda s: torch.backends.cuda.enable_flash_sdp(False)),
    ("kernel flags", lambda s: setattr(torch.backends.cudnn, "benchmark", True)),
    ("warnings filters", lambda s: warnings.simplefilter("ignore")),
    ("ctrl-c handler", lambda s: signal.signal(signal.SIGINT, signal.SIG_IGN)),
    ("cwd", lambda s: os.chdir("..")),
    ("files", lambda s: Path("core").touch()),
    ("files", lambda s: os.makedirs(os.path.join(tempfile.gettempdir(), "a"))),
]


@pytest.fixture
def settings_back() -> Iterator[None]:
    """What the fixtures of the folder and pytest itself do not put back."""
    yield
    torch.set_grad_enabled(True)
    torch.set_autocast_enabled("cpu", False)
    torch.set_default_dtype(torch.float32)
    torch.use_deterministic_algorithms(False)
    torch.backends.cuda.enable_flash_sdp(True)
    torch.backends.cudnn.benchmark = False


@pytest.mark.usefixtures("settings_back")
@pytest.mark.parametrize(("kind", "spoil"), SPOILS, ids=[f"{number} {kind}" for number, (kind, _) in enumerate(SPOILS)])
def test_the_digest_sees_it(kind, spoil):
    subject = make_subject(KIND)
    before = digest(subject)
    assert digest(subject) == before
    spoil(subject)
    assert kind in map(of_kind, differences(before, digest(subject)))


def test_everything_in_the_digest_is_spoiled():
    assert set(map(of_kind, digest(make_subject(KIND)))) == {kind for kind, _ in SPOILS}


def test_the_generators_of_all_threads_are_named():
    assert set(GLOBAL_GENERATORS) <= set(digest(make_subject(KIND)))
