"""``from_accelerator`` against Accelerate's own loop: the same losses, gradients and weights, and nothing left behind."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType
from architectures import gpt2, images, pad_next, stack_images, texts
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrfinder
from hessian import Problem
from hessian.step import train_step
from lrfinder.integrations.accelerate import from_accelerator

LR = 0.1
CRITERION = nn.CrossEntropyLoss()
STEP_KEYWORDS = ("model", "optimizer", "data", "criterion", "loss_fn", "device", "accumulate", "autocast", "scaler", "clip_norm")


@pytest.fixture(autouse=True)
def fresh_state() -> Iterator[None]:
    """Accelerate keeps one state in each process."""
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()


class Run:
    """Digits in ten batches of eight and one of four; everything prepared, the same every time."""

    def __init__(self, accumulate: int = 1, mixed: str = "no", seedable: bool = False) -> None:
        config = DataLoaderConfiguration(use_seedable_sampler=seedable)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate, mixed_precision=mixed, dataloader_config=config)
        samples = images(84)
        data = TensorDataset(torch.stack([each["pixels"] for each in samples]), torch.tensor([each["label"] for each in samples]))
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 10))
        optimizer = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        loader = DataLoader(data, batch_size=8, shuffle=True)
        prepared = self.accelerator.prepare(net, optimizer, loader, scheduler)
        self.model, self.optimizer, self.loader, self.scheduler = prepared

    @property
    def prepared(self) -> tuple[Any, ...]:
        return self.accelerator, self.model, self.optimizer, self.loader

    def train(self, steps: int, clip: float | None = None) -> float:
        """Accelerate's own loop; the mean loss of the first window."""
        torch.manual_seed(0)
        losses, done = [], 0
        while done < steps:
            for inputs, target in self.loader:
                with self.accelerator.accumulate(self.model):
                    loss = CRITERION(self.model(inputs), target)
                    self.accelerator.backward(loss)
                    if clip is not None and self.accelerator.sync_gradients:
                        self.accelerator.clip_grad_norm_(self.model.parameters(), clip)
                    self.optimizer.step()
                    self.scheduler.step()
                    self.optimizer.zero_grad()
                losses.append(loss.item())
                done += self.accelerator.sync_gradients
                if done == steps:
                    break
        return sum(losses[: self.accelerator.gradient_accumulation_steps]) / self.accelerator.gradient_accumulation_steps

    def weights(self) -> list[Tensor]:
        return [tensor.clone() for tensor in self.model.state_dict().values()]


def our_steps(run: Run, steps: int, **overrides: Any) -> list[float]:
    arguments = from_accelerator(*run.prepared, CRITERION, **overrides)
    problem = Problem(**{name: arguments[name] for name in STEP_KEYWORDS if name in arguments})
    torch.manual_seed(0)
    return [train_step(problem, batch) for batch in islice(problem.batches, steps)]


@pytest.mark.parametrize("seedable", [False, True])
@pytest.mark.parametrize("mixed", ["no", "bf16"])
@pytest.mark.parametrize(("accumulate", "clip"), [(1, None), (3, None), (3, 0.01)])
def test_a_step_is_that_of_accelerates_loop_bit_for_bit(accumulate: int, clip: float | None, mixed: str, seedable: bool):
    theirs, ours = Run(accumulate, mixed, seedable), Run(accumulate, mixed, seedable)
    assert our_steps(ours, 1, clip_norm=clip) == [pytest.approx(theirs.train(1, clip), rel=1e-6)]
    torch.testing.assert_close(ours.weights(), theirs.weights(), rtol=0, atol=0)


def test_a_pass_with_a_last_window_of_fewer_batches_is_that_of_accelerates_loop_bit_for_bit():
    """Three windows of three batches and one of two, whose gradients Accelerate divides by three."""
    theirs, ours = Run(3), Run(3)
    theirs.scheduler.step = lambda: None  # steps of ours are made at the LR that is set
    theirs.train(4)
    our_steps(ours, 4)
    torch.testing.assert_close(ours.weights(), theirs.weights(), rtol=0, atol=0)


def test_validation_data_that_are_prepared_leave_the_gradient_state_as_it_was():
    run = Run()
    val = run.accelerator.prepare(DataLoader(run.loader.dataset, batch_size=4))
    state = run.accelerator.gradient_state
    before = (state.active_dataloader, len(state.dataloader_references), state.in_dataloader)
    lrfinder.range_test(**from_accelerator(*run.prepared, CRITERION, val_data=val), num_iter=5, progress=False)
    assert (state.active_dataloader, len(state.dataloader_references), state.in_dataloader) == before


def test_a_model_that_gives_its_loss_needs_no_criterion():
    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    torch.manual_seed(0)
    model = gpt2()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(texts(20), batch_size=4, collate_fn=pad_next)
    prepared = accelerator.prepare(model, optimizer, loader)
    found = lrfinder.find_lr(**from_accelerator(accelerator, *prepared, budget=60))
    assert 1e-5 < found.lr < 1


def test_curvature_is_measured_in_full_precision_though_the_model_is_prepared():
    run = Run(mixed="bf16")
    arguments = from_accelerator(*run.prepared, CRITERION)
    batch = next(iter(arguments["data"]))
    run.model.eval()
    plain = CRITERION(run.model._original_forward(batch[0]), batch[1])
    assert arguments["loss_fn"](run.model, batch).item() == plain.item()
    with arguments["autocast"]():
        low = arguments["loss_fn"](run.model, batch)
    assert low.item() == CRITERION(run.model(batch[0]), batch[1]).item() != plain.item()


def state_of(run: Run) -> dict[str, str]:
    found = {"random": str(torch.get_rng_state().tolist()), "end": str(run.loader.end_of_dataloader)}
    for owner in (run.accelerator, GradientState(), run.loader, run.loader.batch_sampler.sampler, run.optimizer, run.scheduler, run.model):
        for name, value in vars(owner).items():
            found[f"{type(owner).__name__}.{name}"] = repr(value if isinstance(value, (list, dict, bool, int, float, str)) else id(value))
    return found


@pytest.mark.parametrize("seedable", [False, True])
@pytest.mark.parametrize("mixed", ["no", "bf16"])
def test_nothing_is_changed(mixed: str, seedable: bool):
    run = Run(2, mixed, seedable)
    run.train(4)
    before = state_of(run), run.weights()
    lrfinder.find_lr(**from_accelerator(*run.prepared, CRITERION, budget=60))
    assert state_of(run) == before[0]
    torch.testing.assert_close(run.weights(), before[1], rtol=0, atol=0)


@pytest.mark.parametrize("mixed", ["no", "bf16"])
def test_training_after_find_lr_is_that_without_it_bit_for_bit(mixed: str):
    def trained(*, find: bool) -> list[Tensor]:
        run = Run(2, mixed, seedable=True)
        for _ in range(2):  # before the first training, and between two
            if find:
                lrfinder.find_lr(**from_accelerator(*run.prepared, CRITERION, budget=60))
            run.train(7)
        return run.weights()

    torch.testing.assert_close(trained(find=True), trained(find=False), rtol=0, atol=0)


def test_a_suggestion_is_applied_to_the_prepared_optimizer():
    run = Run()
    accelerator, model, optimizer, loader = run.prepared
    optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), lr=LR))
    found = lrfinder.find_lr(**from_accelerator(accelerator, model, optimizer, loader, CRITERION, budget=60))
    found.apply(optimizer)
    assert optimizer.param_groups[0]["lr"] == found.lr
    assert found.lr > 1e-3


def test_samples_to_score_on_are_set_aside_though_the_loader_is_prepared():
    run = Run()
    found = lrfinder.find_lr(**from_accelerator(*run.prepared, CRITERION, budget=120))
    assert found.probes is not None
    assert found.probes.scored_on == "data"
    assert found.probes.share == pytest.approx(0.2, abs=0.01)


def test_arguments_are_those_of_find_lr_and_can_be_replaced():
    arguments = from_accelerator(*Run(3).prepared, CRITERION, total_steps=5, accumulate=2)
    assert set(arguments) <= set(inspect.signature(lrfinder.find_lr).parameters)
    assert (arguments["accumulate"], arguments["total_steps"]) == (2, 5)
    assert type(arguments["optimizer"]) is torch.optim.SGD


def test_what_was_not_prepared_is_taken_as_it_is():
    accelerator = Accelerator(cpu=True)
    model = nn.Linear(2, 1)
    optimizer, data = torch.optim.SGD(model.parameters(), lr=0.1), [stack_images(images(4))]
    arguments = from_accelerator(accelerator, model, optimizer, data)
    assert (arguments["optimizer"], arguments["data"]) == (optimizer, data)


REFUSED = [
    ("num_processes", 4, r"runs 4 processes, .* with accumulate=12 for the same batch"),
    ("distributed_type", DistributedType.FSDP, r"FSDP takes its own training steps"),
    ("_mixed_precision", "fp8", r"mixed_precision='fp8' replaces the layers"),
]


@pytest.mark.parametrize(("name", "value", "words"), REFUSED)
def test_what_cannot_be_followed_is_refused(name: str, value: Any, words: str):
    run = Run(3)
    for state in (PartialState(), AcceleratorState()):
        setattr(state, name, value)
    with pytest.raises(ValueError, match=words):
        from_accelerator(*run.prepared, CRITERION)
