"""``LRSweep``: the sweep around the user's own training step, for every training that ``range_test`` cannot know."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from itertools import chain, islice, repeat
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from hessian.batches import Batches
from hessian.describe import describe_optimizer
from hessian.distributed import team_of
from hessian.nested import batch_size
from hessian.problem import check_training, listed
from hessian.readout import Readout
from hessian.snapshot import Doorkeeper, Guard, Place, Snapshot, check_choices, seed_everything, with_gradients
from hessian.step import checked_number
from lrfinder.curve import LRCurve
from lrfinder.progress import Progress
from lrfinder.ramp import Mode, Ramp
from lrfinder.steps import SMOOTHING, Recorded, Steps, SweepSettings


class LRSweep(AbstractContextManager["LRSweep"]):
    """A range test around your own training step: several optimizers, closures, Fabric, Accelerate, anything that takes steps.

    ::

        with lrfinder.LRSweep(model, optimizer, start_lr=1e-6, end_lr=1.0) as sweep:
            for batch in sweep(loader):
                sweep.report(my_training_step(batch))
        sweep.curve.suggest("steepest")

    Before every batch the LRs are set; ``report`` takes the loss of the step that you made with it. The loop ends after ``num_iter``
    steps or where the loss breaks, and leaving the block puts models, optimizers, loader and random generators back bit for bit, also
    after an error or Ctrl-C, which carry what was recorded as their ``curve``.

    Args:
        model: The model, or a list of them: every module that your step trains or changes.
        optimizer: The optimizer, or a list of them; all param groups keep the ratio of their base LRs, and the curve reports the
            largest group's.
        start_lr: First learning rate.
        end_lr: Last learning rate.
        num_iter: Steps.
        mode: ``"exponential"``, or ``"linear"`` as in Smith's paper.
        stop_factor: Stop when the running median exceeds this times the best loss and 1.2 times the initial one.
        smoothing: Half-width of the smoothing window, as a share of ``num_iter``; 0 for none.
        seed: Of every random generator when the loop begins, hence of the data order.
        progress: Show a bar on stderr; None shows one on a terminal and in a notebook.
        keep: Whatever else your step changes and must come back: EMA copies, schedulers, a ``GradScaler``, replay buffers, a loader
            that you read yourself.
        snapshot: Where the copy of what must come back lies: ``"device"`` beside the original, or ``"cpu"`` in the host's memory.

    Raises:
        ValueError, TypeError: If an argument cannot be right; nothing has moved yet.
        RuntimeError: If it is used in another order than above.
    """

    def __init__(
        self,
        model: nn.Module | Sequence[nn.Module],
        optimizer: Any,
        *,
        start_lr: float = 1e-7,
        end_lr: float = 10.0,
        num_iter: int = 100,
        mode: Mode = "exponential",
        stop_factor: float = 4.0,
        smoothing: float = SMOOTHING,
        seed: int = 0,
        progress: bool | None = None,
        keep: Sequence[Any] = (),
        snapshot: Place = "device",
    ) -> None:
        models, optimizers = listed("model", model), listed("optimizer", optimizer)
        check_training(models, optimizers)
        check_choices(keep, snapshot)
        settings = SweepSettings(Ramp(start_lr, end_lr, num_iter, mode), stop_factor, smoothing, seed, "sweep")
        self._team = team_of(models)
        self._steps = Steps(optimizers, settings, readout=Readout(self._team))
        self._progress = Progress(progress)
        self._about: dict[str, Any] = {
            "model": " and ".join(type(module).__name__ for module in models),
            "optimizer": " and ".join(map(describe_optimizer, optimizers)),
        }
        # Not a Guard, which would hold the copy for ever.
        self._preserved = partial(Guard, models, optimizers, [], keep, snapshot, with_gradients())
        self._weight: int | None = None
        self._start: Snapshot | None = None  # while the block lasts
        self._recorded = Recorded()
        self._stack = ExitStack()
        self._state = "new"
        self._door = Doorkeeper(self, LRSweep.__enter__.__code__, LRSweep.__call__.__code__, LRSweep.__exit__.__code__)

    def __enter__(self) -> LRSweep:
        if self._state != "new":
            raise RuntimeError("this LRSweep has been entered before; make a new one for every sweep.")
        try:
            self._state = "entered"
            self._door.begin()
            self._start = self._stack.enter_context(self._team.around(self._preserved()))
            self._door.deliver()
        except BaseException:
            self._leave()
            raise
        return self

    def __call__(self, data: Any = None) -> Iterator[Any]:
        """The batches, each with the LRs of its step set before it comes.

        Args:
            data: Batches that can be read more than once (they are, if shorter than the sweep), or a function that returns one. They
                are put back with all else. None for an endless stream of None, where your step gets its data itself.

        Raises:
            RuntimeError: If it is called outside the ``with`` block, or twice.
            BadArgument, BadType: If the data cannot be read, or not twice.
        """
        self._check_inside("sweep(...)")
        if self._state == "begun":
            raise RuntimeError("sweep(...) was called twice; one LRSweep is one loop: make a new one for another sweep.")
        batches = None if data is None else Batches(data, team=self._team)
        self._about["samples"] = None if batches is None else self._team.total(batches.samples)
        self._begin([] if batches is None else [batches.data])
        loop = self._steps.over(repeat(None) if batches is None else batches, self._progress)
        self._stack.callback(loop.close)  # type: ignore[attr-defined]
        self._door.deliver()
        if batches is None:
            return loop
        # Alone only the first batch is asked how large it is, and the others come without a step more.
        return chain(map(self._measured, islice(loop, 1)), loop) if self._team.alone else map(self._measured, loop)

    def _begin(self, data: list[Any]) -> None:
        """Preserve the data too, and make all that follows a function of the seed."""
        assert self._start is not None
        self._start.add(*data)
        self._stack.callback(lambda: self._recorded.add(self.curve))
        seed_everything(self._steps.settings.seed, *data)
        self._state = "begun"

    def _measured(self, batch: Any) -> Any:
        """The batch; how large the first one is, is noted, and of every one where it weighs against those of other ranks."""
        first = "batch_size" not in self._about
        if first or not self._team.alone:
            self._weight = batch_size(batch)
        if first:
            self._about["batch_size"] = self._team.total(self._weight)
        return batch

    def report(self, loss: float | Tensor, *, skipped: bool = False) -> None:
        """Record the loss of the step made with this batch. A tensor is read once, and none of its graph is held.

        One that lies on an accelerator is copied there and read together with the next ones, eight at a time: to read it is to wait for
        the device. The loop then ends up to seven steps late, and drops them.

        Args:
            loss: One number, as a float or a tensor.
            skipped: Whether the step was not made after all, as by a ``GradScaler`` that met an overflow: nothing is recorded then, and
                the next batch comes at the same LR. A loss that is not finite ends the sweep all the same.

        Raises:
            RuntimeError: If it is called outside the loop, or twice for a batch.
            BadArgument, BadType: If the loss is not one number.
        """
        steps, readout = self._steps, self._steps.readout
        if self._state != "begun" or not steps.waiting:
            raise RuntimeError(self._unexpected())
        known = readout.single(checked_number(loss, "report got"), self._weight, made=not skipped)
        if readout.made:
            steps.report(known)
        else:
            self._skip(known)

    def _unexpected(self) -> str:
        self._check_inside("report(loss)")
        made = self._steps.made
        when = f"again after the loss of step {made} was reported" if made else "before the first batch"
        return f"report(loss) was called {when}; call it once for every batch, inside the loop over sweep(...)."

    def _skip(self, known: list[float]) -> None:
        """A step that was not made on every rank counts only if its loss is not finite, which cannot wait."""
        *before, last = [*known, *self._steps.readout.rest()]
        self._steps.learn(before)
        if math.isfinite(last):
            self._steps.skip()
        else:
            self._steps.report([last])

    @property
    def curve(self) -> LRCurve:
        """What was reported so far: during the loop, after it, and after an error."""
        return self._steps.curve(**self._about)

    def _check_inside(self, what: str) -> None:
        if self._state in ("new", "left"):
            where = "before" if self._state == "new" else "after"
            raise RuntimeError(
                f"{what} was called {where} the with block of its LRSweep; call it inside, where all is put back at the end."
            )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            with self._recorded.carried():
                self._leave(kind, error, trace)
        finally:
            if error is not None:
                self._recorded.attach(error)

    def _leave(self, *raised: Any) -> None:
        self._state = "left"
        try:
            self._stack.__exit__(*(raised or (None, None, None)))  # other ranks are told what was raised here
        finally:
            self._start = None
            self._door.end()
