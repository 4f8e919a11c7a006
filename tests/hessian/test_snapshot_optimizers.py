"""Every optimizer of torch, and those that people use beside it: state, counters and groups come back bit for bit."""

from __future__ import annotations

import pytest
import pytorch_optimizer as third
import schedulefree
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import described
from torch import nn, optim
from versions import muon, with_muon

from hessian import preserve

OPTIMIZERS = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "SGD momentum": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "SGD foreach": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, foreach=True),
    "SGD fused": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9, fused=True),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.1),
    "Adam tensor lr": lambda parameters: optim.Adam(parameters, lr=torch.tensor(0.1)),
    "Adam amsgrad": lambda parameters: optim.Adam(parameters, lr=0.1, amsgrad=True),
    "Adam foreach": lambda parameters: optim.Adam(parameters, lr=0.1, foreach=True),
    "Adam fused": lambda parameters: optim.Adam(parameters, lr=0.1, fused=True),
    "AdamW": lambda parameters: optim.AdamW(parameters, lr=0.1),
    "Adamax": lambda parameters: optim.Adamax(parameters),
    "NAdam": lambda parameters: optim.NAdam(parameters),
    "RAdam": lambda parameters: optim.RAdam(parameters),
    "Adagrad": lambda parameters: optim.Adagrad(parameters),
    "Adagrad fused": lambda parameters: optim.Adagrad(parameters, fused=True),
    "Adadelta": lambda parameters: optim.Adadelta(parameters),
    "Adafactor": lambda parameters: optim.Adafactor(parameters),
    "ASGD": lambda parameters: optim.ASGD(parameters),
    "LBFGS": lambda parameters: optim.LBFGS(parameters, max_iter=3),
    **with_muon({"Muon": muon}),
    "RMSprop": lambda parameters: optim.RMSprop(parameters, momentum=0.9, centered=True),
    "Rprop": lambda parameters: optim.Rprop(parameters),
    "SparseAdam": lambda parameters: optim.SparseAdam(parameters),
    "Lion": lambda parameters: third.Lion(parameters, lr=1e-3),
    "Prodigy": lambda parameters: third.Prodigy(parameters),
    "DAdaptAdam": lambda parameters: third.DAdaptAdam(parameters),
    "DAdaptSGD": lambda parameters: third.DAdaptSGD(parameters),
    "DAdaptLion": lambda parameters: third.DAdaptLion(parameters),
    "SOAP": lambda parameters: third.SOAP(parameters, lr=1e-3, precondition_frequency=1),
    "Shampoo": lambda parameters: third.ScalableShampoo(parameters),  # keeps objects in its state
    "SAM": lambda parameters: third.SAM(parameters, base_optimizer=optim.AdamW, lr=0.1),
    "Lookahead": lambda parameters: third.Lookahead(optim.SGD(parameters, lr=0.1, momentum=0.9)),
    "Schedule-Free SGD": lambda parameters: schedulefree.SGDScheduleFree(parameters, lr=0.1),
    "Schedule-Free AdamW": lambda parameters: schedulefree.AdamWScheduleFree(parameters),
    "Schedule-Free RAdam": lambda parameters: schedulefree.RAdamScheduleFree(parameters),
}
ALL = pytest.mark.parametrize("name", OPTIMIZERS)


class Run:
    """A model of two weights (one is no matrix where the optimizer takes any), and steps that suit the optimizer."""

    def __init__(self, name, used=0):
        torch.default_generator.manual_seed(0)
        self.sparse = name == "SparseAdam"
        self.model = nn.Sequential(nn.Embedding(5, 4, sparse=self.sparse), nn.Linear(4, 4, bias=name != "Muon"))
        trained = self.model[0].parameters() if self.sparse else self.model.parameters()
        self.optimizer = OPTIMIZERS[name](list(trained))
        self.needs_closure = name in ("SAM", "LBFGS")
        if hasattr(self.optimizer, "train"):
            self.optimizer.train()
        self.steps(used)

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.model(torch.tensor([0, 1, 2])).pow(2).sum()
        loss.backward()
        return loss

    def steps(self, count):
        for _ in range(count):
            self.closure()
            self.optimizer.step(*([self.closure] if self.needs_closure else []))

    def look(self):
        return described(self.model), described(self.optimizer)


@ALL
@pytest.mark.parametrize("used", [0, 3], ids=["fresh", "used"])
@pytest.mark.parametrize("place", ["device", "cpu"])
def test_it_is_back_and_training_goes_on_as_if_nothing_had_been(name, used, place):
    alone, run = Run(name, used), Run(name, used)
    before = run.look()
    with preserve(run.model, run.optimizer, snapshot=place) as start:
        run.steps(2)
        assert run.look() != before
        start.restore()
        if hasattr(run.optimizer, "eval"):
            run.optimizer.eval()
        run.steps(0 if name.startswith("Schedule-Free") else 1)
        run.optimizer.param_groups[0].update(lr=7.0, initial_lr=3.0)
    assert run.look() == before
    run.steps(2)
    alone.steps(2)
    for mine, other in zip(run.model.parameters(), alone.model.parameters(), strict=True):
        assert torch.equal(mine, other)


@given(
    name=st.sampled_from(sorted(OPTIMIZERS)),
    used=st.integers(0, 3),
    moves=st.lists(st.sampled_from(["steps", "restore", "clear", "lr", "load"]), max_size=5),
)
def test_whatever_happens_inside(name, used, moves):
    run = Run(name, used)
    before = run.look()
    with preserve(run.model, run.optimizer) as start:
        for move in moves:
            if move == "steps":
                run.steps(1)
            elif move == "restore":
                start.restore()
            elif move == "clear":
                run.optimizer.state.clear()
                start.restore()
            elif move == "lr":
                run.optimizer.param_groups[0]["lr"] = 0.01
                start.restore()
            elif name not in ("SAM", "Lookahead"):  # theirs need what they wrap
                run.optimizer.load_state_dict(run.optimizer.state_dict())
    assert run.look() == before


def test_every_optimizer_of_torch_is_among_them():
    made = {type(Run(name).optimizer).__name__ for name in OPTIMIZERS}
    there = {name for name, kind in vars(optim).items() if isinstance(kind, type) and issubclass(kind, optim.Optimizer)}
    assert there - {"Optimizer"} <= made


def test_a_spoiled_optimizer_is_seen():
    run = Run("Adam", 3)
    before = run.look()
    run.steps(1)
    assert run.look() != before
