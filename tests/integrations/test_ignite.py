"""The ignite adapter against real trainers: the same loss and weights as ``run``, and a ``run`` that does not notice us."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from ignite.engine import Engine, Events, create_supervised_trainer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import lrfinder
from hessian import Problem
from lrfinder.integrations.ignite import FinderHandler, from_engine, planned_steps

FIND = {"budget": "quick", "curvature": False, "progress": False}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))


def loader(count: int = 96, **options: Any) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 8, generator=generator)
    return DataLoader(TensorDataset(inputs, inputs[:, :3].argmax(1)), batch_size=16, **options)


def training(**options: Any) -> tuple[Engine, nn.Module, Any]:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return create_supervised_trainer(model, optimizer, cross_entropy, **options), model, optimizer


def loss_fn(model: Any, batch: Any) -> Tensor:
    return cross_entropy(model(batch[0]), batch[1])


def weights(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(map(torch.equal, weights(first), weights(second)))


def losses_of_run(engine: Engine, data: Any, **length: Any) -> list[float]:
    losses: list[float] = []
    with engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: losses.append(engine.state.output)):
        engine.run(data, **length)
    return losses


OWN: list[dict[str, Any]] = [
    {},
    {"gradient_accumulation_steps": 3},
    {"amp_mode": "amp"},
    {"amp_mode": "amp", "scaler": True, "gradient_accumulation_steps": 2},
]


@pytest.mark.parametrize("options", OWN, ids=str)
@pytest.mark.filterwarnings("ignore:.*CUDA is not available", "ignore:.*cuda.*not available")
def test_steps_are_those_of_run(options: dict[str, Any]):
    count = options.get("gradient_accumulation_steps", 1)
    (engine, model, _), (other, ours, optimizer) = training(**options), training(**options)
    torch.manual_seed(2)
    expected = losses_of_run(engine, loader(16 * 2 * count), max_epochs=1)
    known = from_engine(other, ours, optimizer, loader(16 * 2 * count))
    assert known["accumulate"] == count
    batches = iter(Problem(ours, optimizer, known["data"], loss_fn=loss_fn, accumulate=count).batches)
    torch.manual_seed(2)
    losses = [known["step_fn"](next(batches)) for _ in range(2)]
    assert losses == pytest.approx([sum(expected[i : i + count]) / count for i in (0, count)])
    assert other.state.iteration == engine.state.iteration == 2 * count
    assert same(model, ours)
    assert not same(model, net())


def test_a_short_window_steps_too():
    engine, model, optimizer = training(gradient_accumulation_steps=3)
    step = from_engine(engine, model, optimizer, loader())["step_fn"]
    batches = Problem(model, optimizer, loader(64), loss_fn=loss_fn, accumulate=3).batches
    seen = []
    for _, window in zip(range(4), batches, strict=False):
        before = weights(model)
        step(window)
        seen.append((len(window), engine.state.iteration % 3, all(map(torch.equal, before, weights(model)))))
    assert seen == [(3, 0, False), (1, 0, False), (3, 0, False), (1, 0, False)]
    assert all(parameter.grad.norm() > 0 for parameter in model.parameters())


def run_after(prepare: Callable[[Engine, nn.Module, Any, Any], None]) -> tuple[nn.Module, list[float]]:
    """A whole run of two epochs with a shuffled loader, after something else."""
    engine, model, optimizer = training(gradient_accumulation_steps=2)
    data = loader(shuffle=True)
    torch.manual_seed(7)
    prepare(engine, model, optimizer, data)
    return model, losses_of_run(engine, data, max_epochs=2)


def find_first(engine: Engine, model: nn.Module, optimizer: Any, data: Any) -> None:
    called = []
    with engine.add_event_handler(Events.ITERATION_COMPLETED, called.append):
        before = dict(vars(engine.state))
        found = lrfinder.find_lr(**from_engine(engine, model, optimizer, data, loss_fn=loss_fn, total_steps=6, **FIND))
    assert found.total_steps == 6
    assert vars(engine.state) == before
    assert called == []


def test_a_run_after_find_lr_equals_one_without_it():
    (model, losses), (untouched, expected) = run_after(find_first), run_after(lambda *_: None)
    assert losses == expected
    assert same(model, untouched)


def test_without_a_loss_the_engines_steps_score():
    engine, model, optimizer = training()
    found = lrfinder.find_lr(**from_engine(engine, model, optimizer, loader(), budget="quick", progress=False))
    assert found.lr > 0
    assert found.limit is None
    assert same(model, net())


def test_a_handler_finds_when_the_trainer_starts_and_trains_on_with_it():
    engine, model, optimizer = training(gradient_accumulation_steps=2)
    finder = FinderHandler(model, optimizer, loss_fn=loss_fn, **FIND)
    finder.attach(engine)
    torch.manual_seed(3)
    losses = losses_of_run(engine, loader(shuffle=True), max_epochs=4)
    assert finder.suggestion.total_steps == 12
    assert optimizer.param_groups[0]["lr"] == finder.suggestion.lr
    other, again, plain = training(gradient_accumulation_steps=2)
    plain.param_groups[0]["lr"] = finder.suggestion.lr
    torch.manual_seed(3)
    assert losses_of_run(other, loader(shuffle=True), max_epochs=4) == losses
    assert same(model, again)


def test_a_handler_that_does_not_apply_leaves_the_learning_rate():
    engine, model, optimizer = training()
    finder = FinderHandler(model, optimizer, apply=False, loss_fn=loss_fn, **FIND)
    with engine.add_event_handler(Events.STARTED, finder):
        engine.run(loader(), max_epochs=2)
    assert finder.suggestion.total_steps == 12
    assert optimizer.param_groups[0]["lr"] == 0.05


def test_total_steps_are_those_of_the_run():
    engine, _, _ = training()
    assert planned_steps(engine, 1) is None
    engine.state.max_epochs, engine.state.epoch_length = 4, 6
    assert planned_steps(engine, 3) == 8
    engine.state.max_iters = 9  # as run(..., max_iters=9) sets it
    assert planned_steps(engine, 2) == 4


def test_an_output_of_several_things_is_transformed():
    def several(x: Any, y: Any, y_pred: Any, loss: Any) -> Any:
        return {"y": y, "loss": loss}

    engine, model, optimizer = training(output_transform=several)
    batch = next(iter(loader()))
    with pytest.raises(TypeError, match="the engine's output is a dict, not one number; pass output_transform="):
        from_engine(engine, model, optimizer, loader())["step_fn"](batch)
    engine, model, optimizer = training(output_transform=several)
    expected = loss_fn(net().eval(), batch).item()
    model[2].p = 0.0
    known = from_engine(engine, model, optimizer, loader(), output_transform=lambda output: output["loss"])
    assert known["step_fn"](batch) == pytest.approx(expected)


def test_what_is_no_engine_or_has_no_data_is_refused():
    engine, model, optimizer = training()
    with pytest.raises(TypeError, match="engine is a method, not an ignite Engine; pass the trainer"):
        from_engine(engine.run, model, optimizer, loader())
    endless = Engine(lambda engine, batch: 0.0)
    FinderHandler(model, optimizer).attach(endless)
    with pytest.raises(ValueError, match=r"run without data, which its update gets itself; use lrfinder\.LRSweep"):
        endless.run(max_epochs=1, epoch_length=2)
