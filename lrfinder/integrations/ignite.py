"""ignite: a trainer's own update as the step of ``find_lr``, and a handler that finds when the trainer starts.

The update is called as in ``Engine.run``, with ``engine.state`` as it would be then; no event is fired, so no handler is called.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import getclosurevars
from types import FunctionType
from typing import Any

from torch import Tensor, nn

from hessian.errors import BadArgument, BadType
from hessian.nested import Window
from hessian.problem import listed
from lrfinder.find import find_lr
from lrfinder.integrations.needs import require
from lrfinder.results import Suggestion

require("pytorch-ignite", "ignite", "0.5.3")

from ignite.engine import Engine, Events  # noqa: E402

Transform = Callable[[Any], Any]


def from_engine(
    engine: Engine, model: nn.Module, optimizer: Any, data: Any, *, output_transform: Transform | None = None, **overrides: Any
) -> dict[str, Any]:
    """What ``engine.run(data)`` would train, as arguments: ``find_lr(**from_engine(trainer, model, optimizer, loader))``.

    Every step is the engine's. Give ``loss_fn`` (or ``criterion``) too, and the short trainings are scored in eval mode and curvature is
    measured; without it, steps at a learning rate of zero score, and there is no curvature limit. The state of the engine comes back.

    Args:
        engine: A trainer, as of ``create_supervised_trainer``. It need not have run.
        model: What it trains.
        optimizer: Its optimizer.
        data: Batches that can be read more than once.
        output_transform: From what ``update`` returns to the loss, a number or a tensor of one; None for what is the loss itself.
        overrides: Arguments of ``find_lr`` that take precedence; ``accumulate`` for an ``update`` of your own that steps every so many
            batches (that of ``create_supervised_trainer`` tells); ``keep`` is added to.

    Raises:
        ValueError, TypeError: If the engine is none, or its output is no loss.
    """
    if not isinstance(engine, Engine):
        raise BadType(f"engine is a {type(engine).__name__}, not an ignite Engine; pass the trainer, not its run method or its update.")
    update = engine._process_function
    # What it closes over: create_supervised_trainer keeps its arguments there and nowhere else.
    inside = getclosurevars(update).nonlocals if isinstance(update, FunctionType) else {}
    accumulate = overrides.get("accumulate", inside.get("gradient_accumulation_steps", 1))
    scaler = inside.get("scaler")
    return {
        "model": model,
        "optimizer": optimizer,
        "data": data,
        "step_fn": EngineStep(engine, optimizer, accumulate, output_transform),
        "accumulate": accumulate,
        **overrides,
        "keep": [engine, engine.state, *([] if scaler is None else [scaler]), *overrides.get("keep", ())],
    }


class EngineStep:
    """``step_fn(batch)``: one optimizer step of the engine, of a batch or a window of them."""

    def __init__(self, engine: Engine, optimizer: Any, accumulate: int, output_transform: Transform | None) -> None:
        self.engine, self.optimizer, self.accumulate, self.output_transform = engine, optimizer, accumulate, output_transform

    def __call__(self, batch: Any) -> float:
        window, state = batch if isinstance(batch, Window) else (batch,), self.engine.state
        # The engine steps where the number of the batch is a multiple of accumulate: a short window ends there too.
        state.iteration += -state.iteration % self.accumulate + self.accumulate - len(window)
        if len(window) < self.accumulate:
            for optimizer in listed("optimizer", self.optimizer):
                optimizer.zero_grad()
        return sum(map(self._update, window)) / len(window)

    def _update(self, batch: Any) -> float:
        state: Any = self.engine.state
        state.iteration += 1
        state.batch = batch
        state.output = self.engine._process_function(self.engine, batch)
        return loss_of(state.output if self.output_transform is None else self.output_transform(state.output))


class FinderHandler:
    """Finds the learning rate when the trainer starts, on the data it was started with, and trains on with it.

    ::

        finder = FinderHandler(model, optimizer, loss_fn=loss_fn)
        finder.attach(trainer)  # the same as trainer.add_event_handler(Events.STARTED, finder)
        trainer.run(loader, max_epochs=10)
        print(finder.suggestion)

    Args:
        model, optimizer, output_transform: As for ``from_engine``.
        apply: Set the optimizer to the suggestion. A scheduler that is attached would replace it: pass False, and make it afterwards.
        settings: Of ``find_lr``: ``loss_fn``, ``val_data``, ``budget``, ... ``total_steps`` is that of the run.

    Attributes:
        suggestion: What was found, or None.
    """

    def __init__(
        self, model: nn.Module, optimizer: Any, *, output_transform: Transform | None = None, apply: bool = True, **settings: Any
    ) -> None:
        self.model, self.optimizer, self.output_transform = model, optimizer, output_transform
        self.apply, self.settings = apply, settings
        self.suggestion: Suggestion | None = None

    def attach(self, engine: Engine) -> None:
        """Find whenever this trainer starts."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        data = engine.state.dataloader
        if data is None:
            raise BadArgument("the trainer was run without data, which its update gets itself; use lrfinder.LRSweep around that update.")
        known = from_engine(engine, self.model, self.optimizer, data, output_transform=self.output_transform, **self.settings)
        self.suggestion = find_lr(**{"total_steps": planned_steps(engine, known["accumulate"]), **known})
        if self.apply:
            self.suggestion.apply(self.optimizer)


def planned_steps(engine: Engine, accumulate: int) -> int | None:
    """Optimizer steps of the run, if its length is known."""
    state = engine.state
    most: int | None = getattr(state, "max_iters", None)  # since 0.5.5
    if most is None and state.max_epochs is not None and state.epoch_length is not None:
        most = state.max_epochs * state.epoch_length
    return None if most is None else max(1, most // accumulate)


def loss_of(output: Any) -> float:
    """The loss as a number."""
    if isinstance(output, Tensor) and output.numel() == 1:
        return float(output.item())
    if isinstance(output, bool) or not isinstance(output, (int, float)):
        what = f"a tensor of shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise BadType(f"the engine's output is {what}, not one number; pass output_transform=..., from the output to the loss.")
    return float(output)
