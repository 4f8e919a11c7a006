"""One line for every optimizer and setting whose limit is tested: the optimizer, its settings, the state it is held to.

A limit that is registered in ``hessian.limits`` and has no line here fails the suite; the table in docs/formulas.md is made of these
lines. Decay is large enough to move the limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from oracles import HELD, create_state, divergence_threshold, hold, is_divergent, real_step
from schedulefree import AdamWScheduleFree, SGDScheduleFree
from torch import nn
from torch.optim import ASGD, SGD, Adadelta, Adafactor, Adagrad, Adam, Adamax, AdamW, NAdam, RAdam, RMSprop
from versions import HAS_DECOUPLED_ADAM

from hessian import StabilityLimit
from hessian.limits import limits_of

CURVATURE = 50.0


@dataclass(frozen=True)
class LimitCase:
    """An optimizer with settings, and what is put back before each of its steps so that its preconditioner does not move."""

    cls: type[torch.optim.Optimizer]
    settings: Mapping[str, Any]
    held: Mapping[str, Any]

    def __call__(self, parameters: Sequence[nn.Parameter], lr: float) -> torch.optim.Optimizer:
        return self.cls(parameters, lr=lr, **self.settings)


def case(cls: type[torch.optim.Optimizer], held: Mapping[str, Any] = HELD, **settings: Any) -> LimitCase:
    return LimitCase(cls, settings, held)


# ASGD steps by the ``eta`` in its state, which it lets decay: it is held at the group's LR.
CONSTANT_ETA = {"eta": lambda group: group["lr"]}
# The momentum of NAdam rises with its age, so it is held at one. ``mu_product``, the transient of its bias correction, is held at zero.
NADAM_YOUNG = {**HELD, "step": 20_000.0, "mu_product": 0.0}  # 0.96^(step * momentum_decay): 0.04 at the default, 0.44 at a tenth
NADAM_OLD = {**HELD, "mu_product": 0.0}
MAXIMUM = {"exp_inf": 0.2, "step": 1e6}
SUM = {"sum": 0.04, "step": 1e6}
UPDATES = {"square_avg": 0.04, "acc_delta": 0.01, "step": 1e6}
# Adafactor caps its LR at 1 / sqrt(step) and forgets at step^-0.8: at step 1000 and this variance the limit lies below the cap.
FACTORED = {"variance": 1e-7, "step": 1e3}


def share(averaging: float) -> dict[str, Any]:
    """Schedule-Free, held at the step whose averaging weight is ``c``: a step weighs ``lr_max^2 = 1``, those before ``1 / c - 1``."""
    return {"lr_max": 1.0, "weight_sum": 1 / averaging - 1, "k": 10_000, "exp_avg_sq": 0.04}


LIMIT_CASES = {
    "sgd": case(SGD),
    "sgd l2": case(SGD, weight_decay=20),
    "sgd dampening alone": case(SGD, dampening=0.5),  # torch ignores it without momentum
    "sgd momentum": case(SGD, momentum=0.9),
    "sgd small momentum": case(SGD, momentum=0.3),
    "sgd momentum l2": case(SGD, momentum=0.9, weight_decay=20),
    "sgd momentum dampening": case(SGD, momentum=0.9, dampening=0.9),
    "sgd momentum dampening l2": case(SGD, momentum=0.8, dampening=0.3, weight_decay=20),
    "sgd nesterov": case(SGD, momentum=0.9, nesterov=True),
    "sgd nesterov l2": case(SGD, momentum=0.6, nesterov=True, weight_decay=20),
    "asgd": case(ASGD, CONSTANT_ETA),
    "asgd decoupled": case(ASGD, CONSTANT_ETA, lambd=20),
    "asgd decoupled l2": case(ASGD, CONSTANT_ETA, lambd=10, weight_decay=20),
    "adam": case(Adam),
    "adam betas": case(Adam, betas=(0.5, 0.99)),
    "adam no momentum": case(Adam, betas=(0.0, 0.9)),
    "adam much momentum": case(Adam, betas=(0.98, 0.999)),
    "adam eps": case(Adam, eps=0.1),
    "adam l2": case(Adam, weight_decay=20),
    **({"adam decoupled": case(Adam, weight_decay=10, decoupled_weight_decay=True)} if HAS_DECOUPLED_ADAM else {}),
    "adam amsgrad": case(Adam, amsgrad=True),
    "adam amsgrad l2": case(Adam, amsgrad=True, weight_decay=20),
    "adamw": case(AdamW, weight_decay=10),
    "adamw default": case(AdamW),
    "adamw betas": case(AdamW, betas=(0.6, 0.95), weight_decay=40),
    "adamw amsgrad": case(AdamW, amsgrad=True, weight_decay=10),
    "radam": case(RAdam),
    "radam l2": case(RAdam, betas=(0.7, 0.99), weight_decay=20),
    "radam decoupled": case(RAdam, weight_decay=10, decoupled_weight_decay=True),
    "nadam young": case(NAdam, NADAM_YOUNG, momentum_decay=4e-4),
    "nadam old": case(NAdam, NADAM_OLD),
    "nadam betas": case(NAdam, NADAM_OLD, betas=(0.5, 0.99)),
    "nadam l2": case(NAdam, NADAM_OLD, weight_decay=20),
    "nadam decoupled": case(NAdam, NADAM_OLD, weight_decay=10, decoupled_weight_decay=True),
    "nadam young decoupled": case(NAdam, NADAM_YOUNG, momentum_decay=4e-4, weight_decay=10, decoupled_weight_decay=True),
    "adamax": case(Adamax, MAXIMUM),
    "adamax betas l2": case(Adamax, MAXIMUM, betas=(0.7, 0.9), weight_decay=20),
    "adagrad": case(Adagrad, SUM),
    "adagrad lr decay": case(Adagrad, SUM, lr_decay=1e-6),  # halves the LR at step 1e6
    "adagrad eps l2": case(Adagrad, SUM, eps=0.1, weight_decay=20),
    "adadelta": case(Adadelta, UPDATES),
    "adadelta rho eps": case(Adadelta, UPDATES, rho=0.7, eps=0.02),
    "adadelta l2": case(Adadelta, UPDATES, weight_decay=20),
    "rmsprop": case(RMSprop),
    "rmsprop alpha eps": case(RMSprop, alpha=0.9, eps=0.1),
    "rmsprop l2": case(RMSprop, weight_decay=20),
    "rmsprop momentum": case(RMSprop, momentum=0.9),
    "rmsprop centered": case(RMSprop, centered=True),
    "rmsprop centered momentum l2": case(RMSprop, centered=True, momentum=0.7, weight_decay=20),
    "adafactor": case(Adafactor, FACTORED),
    "adafactor decoupled": case(Adafactor, FACTORED, weight_decay=100),
    "schedule-free sgd first": case(SGDScheduleFree, share(1.0)),
    "schedule-free sgd early": case(SGDScheduleFree, share(0.5)),
    "schedule-free sgd late": case(SGDScheduleFree, share(0.02)),
    "schedule-free sgd early l2": case(SGDScheduleFree, share(0.3), momentum=0.7, weight_decay=20),
    "schedule-free sgd late l2": case(SGDScheduleFree, share(0.02), weight_decay=20),
    "schedule-free adamw first": case(AdamWScheduleFree, share(1.0)),
    "schedule-free adamw early": case(AdamWScheduleFree, share(0.5)),
    "schedule-free adamw late": case(AdamWScheduleFree, share(0.02)),
    "schedule-free adamw early decoupled": case(AdamWScheduleFree, share(0.3), betas=(0.8, 0.99), weight_decay=100),
    "schedule-free adamw late decoupled": case(AdamWScheduleFree, share(0.02), weight_decay=100),
}


def tiny(size: int = 1) -> nn.Parameter:
    """A start so small that its gradients add nothing to a held second moment, and never meet Adafactor's clipping."""
    return nn.Parameter(1e-12 * torch.ones(size, dtype=torch.float64))


@dataclass(frozen=True)
class Measured:
    """A limit along one direction of curvature 50, and the LR at which the real optimizer diverges there."""

    limit: StabilityLimit
    predicted: float
    measured: float


def measure(made: LimitCase) -> Measured:
    hessian = torch.tensor([[CURVATURE]], dtype=torch.float64)
    optimizer = made([tiny()], lr=1e-6)
    group = optimizer.param_groups[0]
    parameter = group["params"][0]
    create_state(optimizer, [parameter])
    hold(optimizer, made.held)
    limit = limits_of(optimizer)[0]  # before a step: momenta that change with age are those of the next one
    scale = 1.0
    if limit.preconditioner is not None:  # after it: the second moments are those that the step has just used
        real_step(optimizer, [parameter], hessian)
        if "acc_delta" in made.held:  # which Adadelta uses before it decays it
            hold(optimizer, {"acc_delta": made.held["acc_delta"]})
        scale = float(limit.preconditioner(group, optimizer.state[parameter], parameter))
    predicted = limit.max_lr(CURVATURE, scale=scale)
    low, high = predicted / 1.5, predicted * 1.6  # no symmetric bracket: its first middle would be the limit itself, where rounding decides
    measured = divergence_threshold(lambda lr: is_divergent(made([tiny()], lr=lr), hessian, made.held), low, high)
    return Measured(limit, predicted, measured)


@cache
def measured_case(name: str) -> Measured:
    """The measurement of a line, made once for the test and the table."""
    return measure(LIMIT_CASES[name])
