"""What is looked at before and after: each item turned into something that compares equal if, and only if, nothing has changed.

None stands for an item that the training does not have, which is then not tried.
"""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faults.training import Training

STEP = "step"


def bits(tensor: Tensor) -> tuple[str, bytes]:
    return str(tensor.dtype), tensor.detach().numpy().tobytes()


def parameter_values(training: Training) -> Any:
    return {name: bits(parameter) for name, parameter in training.model.named_parameters()}


def parameter_identity(training: Training) -> Any:
    held = [id(parameter) for group in training.optimizer.param_groups for parameter in group["params"]]
    return held, [(name, id(parameter), parameter.data_ptr()) for name, parameter in training.model.named_parameters()]


def buffers(training: Training) -> Any:
    return {name: bits(buffer) for name, buffer in training.model.named_buffers() if name != "brightness"}


def hidden_buffer(training: Training) -> Any:
    return bits(training.model.brightness)


def counter(training: Training) -> Any:
    return training.model.calls


def grown_list(training: Training) -> Any:
    return tuple(training.model.sizes)


def gradients(training: Training) -> Any:
    found = {name: bits(parameter.grad) for name, parameter in training.model.named_parameters() if parameter.grad is not None}
    return found or None


def no_gradients(training: Training) -> Any:
    return [parameter.grad is None for parameter in training.model.parameters()]


def requires_grad(training: Training) -> Any:
    return [parameter.requires_grad for parameter in training.model.parameters()]


def modes(training: Training) -> Any:
    return [module.training for module in training.model.modules()]


def frozen_norm(training: Training) -> Any:
    return training.trained_frozen if training.frozen else None


def state_entries(training: Training) -> dict[tuple[int, str], Any]:
    """Optimizer state by number of parameter and name."""
    parameters = list(training.model.parameters())
    states = [training.optimizer.state.get(parameter, {}) for parameter in parameters]
    return {(number, name): value for number, state in enumerate(states) for name, value in state.items()}


def state_values(training: Training) -> Any:
    return {key: bits(value) for key, value in state_entries(training).items() if key[1] != STEP} or None


def step_counters(training: Training) -> Any:
    return {key: float(value) for key, value in state_entries(training).items() if key[1] == STEP} or None


def state_keys(training: Training) -> Any:
    return list(state_entries(training))


def group_lrs(training: Training) -> Any:
    return [group["lr"] for group in training.optimizer.param_groups]


def group_entries(training: Training) -> Any:
    return [{key: value for key, value in group.items() if key not in ("lr", "params")} for group in training.optimizer.param_groups]


def scheduler_state(training: Training) -> Any:
    return repr(training.scheduler.state_dict()) if training.scheduler else None


def step_method(training: Training) -> Any:
    return (vars(training.optimizer).get("step"),)  # torch's schedulers put a wrapper there


def torch_generator(training: Training) -> Any:
    return bits(torch.get_rng_state())


def numpy_generator(training: Training) -> Any:
    name, words, *rest = np.random.get_state()
    return name, np.asarray(words).tobytes(), rest


def python_generator(training: Training) -> Any:
    return random.getstate()


def loader_generator(training: Training) -> Any:
    return bits(training.loader.generator.get_state())


def hooks(training: Training) -> Any:
    owners = [*training.model.modules(), training.optimizer]
    held = [len(value) for owner in owners for name, value in vars(owner).items() if name.endswith("hooks") and value]
    on_tensors = [bool(parameter._backward_hooks or parameter._post_accumulate_grad_hooks) for parameter in training.model.parameters()]
    return held, on_tensors


def files(training: Training) -> Any:
    """In the working directory, which is empty at first and holds the folder for temporary files."""
    return sorted(os.fspath(path) for path in Path().rglob("*"))


def interrupt_handler(training: Training) -> Any:
    return signal.getsignal(signal.SIGINT)


ITEMS: dict[str, Callable[[Training], Any]] = {
    "parameter values": parameter_values,
    "parameters: same objects and storage": parameter_identity,
    "buffers (batch-norm statistics)": buffers,
    "non-persistent buffer": hidden_buffer,
    "plain attribute: a counter": counter,
    "plain attribute: a list that grows": grown_list,
    "gradients: values": gradients,
    "gradients: which are None": no_gradients,
    "requires_grad": requires_grad,
    "train/eval flag of every submodule": modes,
    "frozen batch norm is frozen during the sweep": frozen_norm,
    "optimizer state: values": state_values,
    "optimizer state: step counters": step_counters,
    "optimizer state: no new entries": state_keys,
    "param groups: lr": group_lrs,
    "param groups: other entries": group_entries,
    "scheduler state": scheduler_state,
    "optimizer.step as it was": step_method,
    "generator of torch": torch_generator,
    "generator of NumPy": numpy_generator,
    "generator of Python": python_generator,
    "generator of the loader": loader_generator,
    "no hooks left": hooks,
    "no files left": files,
    "handler of Ctrl-C": interrupt_handler,
}


def look(training: Training) -> dict[str, Any]:
    """Every item as it is now."""
    return {name: item(training) for name, item in ITEMS.items()}
