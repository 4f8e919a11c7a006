"""What a search says it cost is what it did cost, counted at the model, the optimizer and torch's own differentiation."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from trainings import ADAM, SGD, make

from lrfinder import find as find_module
from lrfinder import find_lr
from lrfinder.budget import BUDGETS, FORWARD, PRODUCT, Spent, split_budget, usual_trainings

PLAN = {"total_steps": 120, "progress": False}
OVER = 1.25  # times its budget that a search may cost
counts = st.integers(0, 10_000)


@given(steps=counts, forwards=counts, products=counts)
def test_gradients_are_a_sum(steps, forwards, products):
    spent = Spent(steps, forwards, products)
    assert spent.gradients == pytest.approx(steps + forwards / 3 + PRODUCT * products)
    assert Spent(forwards=3).gradients == pytest.approx(1.0) == Spent(steps=1).gradients
    assert FORWARD < 1 < PRODUCT


class Counted:
    """Counts every pass while the block runs."""

    def __init__(self, patch: pytest.MonkeyPatch, model: torch.nn.Module, optimizer: Any) -> None:
        self.passes: Counter[str] = Counter()
        backward, grad = torch.Tensor.backward, torch.autograd.grad

        def counted_backward(tensor: Any, *args: Any, **kwargs: Any) -> None:
            self.passes["backward"] += 1
            backward(tensor, *args, **kwargs)

        def counted_grad(*args: Any, **kwargs: Any) -> Any:
            self.passes["backward" if kwargs.get("create_graph") else "product"] += 1  # the first makes the graph of the gradient
            return grad(*args, **kwargs)

        patch.setattr(torch.Tensor, "backward", counted_backward)
        patch.setattr(torch.autograd, "grad", counted_grad)
        model.register_forward_hook(lambda *_: self.passes.update(["forward"]))
        optimizer.register_step_post_hook(lambda *_: self.passes.update(["step"]))


def counted_search(patch: pytest.MonkeyPatch, optimizer: Any, **changes: Any) -> tuple[Any, Spent, Counter[str]]:
    training, spent = make(optimizer), []

    def noting(**counts: int) -> Spent:
        spent.append(Spent(**counts))
        return spent[-1]

    patch.setattr(find_module, "Spent", noting)
    counted = Counted(patch, training.model, training.optimizer)
    found = find_lr(**training.arguments, **{**PLAN, **changes})
    (kept,) = spent
    return found, kept, counted.passes


@pytest.mark.parametrize("budget", [*BUDGETS, 60, 200])
@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_every_pass_is_counted(monkeypatch, optimizer, budget):
    found, spent, passes = counted_search(monkeypatch, optimizer, budget=budget)
    assert spent.steps == passes["backward"]
    assert spent.steps + spent.forwards == passes["forward"]
    assert spent.products == passes["product"] > 0
    assert passes["step"] == spent.steps - found.limit.num_batches  # those gradients are for curvature
    assert found.gradients == round(spent.gradients, 1)


def test_without_curvature_there_are_no_products(monkeypatch):
    found, spent, passes = counted_search(monkeypatch, SGD, curvature=False, budget="quick")
    assert spent.products == passes["product"] == 0
    assert spent.steps == passes["backward"] == passes["step"]
    assert found.gradients == round(spent.steps + spent.forwards / 3, 1)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_a_search_costs_about_what_its_budget_says(optimizer, budget):
    found = find_lr(**make(optimizer).arguments, **PLAN, budget=budget)
    trained = found.probes.runs
    more = max(0, len(trained) - usual_trainings(split_budget(budget))) * trained[0].steps  # the best one lay at an end of them
    assert BUDGETS[budget] / 2 < found.gradients <= OVER * BUDGETS[budget] + more
