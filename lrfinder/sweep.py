"""The range test: raise the LR from step to step, record the loss, stop where it breaks (Smith 2017, arXiv:1506.01186)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hessian.describe import describe_optimizer
from hessian.losses import LossFn
from hessian.nested import batch_size
from hessian.problem import Problem
from hessian.recipe import Autocast, StepFn
from hessian.result_base import Floats
from hessian.snapshot import Place
from lrfinder.curve import LRCurve
from lrfinder.groupwise import groups_alone, sweep_groups
from lrfinder.metrics import MetricFn, find_metric
from lrfinder.progress import Progress
from lrfinder.ramp import Mode, Ramp
from lrfinder.scoring import Scores, held_out, readout_for, run, scores_of
from lrfinder.steps import SMOOTHING, Recorded, Steps, SweepSettings


def range_test(
    model: nn.Module,
    optimizer: Any,
    data: Any,
    criterion: Callable[..., Tensor] | None = None,
    *,
    loss_fn: LossFn | None = None,
    val_data: Any = None,
    metric: Literal["accuracy"] | MetricFn | None = None,
    per_group: bool = False,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    num_iter: int = 100,
    mode: Mode = "exponential",
    stop_factor: float = 4.0,
    smoothing: float = SMOOTHING,
    seed: int = 0,
    progress: bool | None = None,
    device: torch.device | str | None = None,
    accumulate: int = 1,
    autocast: Autocast | None = None,
    scaler: Any = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    step_fn: StepFn | None = None,
    keep: Sequence[Any] = (),
    snapshot: Place = "device",
) -> LRCurve:
    """Train for ``num_iter`` steps at a rising learning rate, record the loss of every step, and put everything back.

    Data shorter than the sweep are read again. Ctrl-C ends the sweep and returns what was recorded, with status ``"interrupted"``.

    Args:
        model: The model, in train or eval mode as it stands.
        optimizer: Its optimizer; param groups keep the ratio of their base LRs, and the curve reports the largest group's.
        data: Batches that can be read more than once, or a function that returns one.
        criterion: ``criterion(model(inputs), target)`` for batches ``(inputs, target)`` or ``(input, another, ..., target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, in its place; with neither, ``model(**batch).loss``.
        val_data: Batches to score on: the curve then records, and the sweep is stopped by, their mean loss after every step, in eval
            mode, with the same random numbers each time. The first 8 batches count, fewer if they are large; they are read once.
        metric: What to record beside the loss, the larger the better: ``"accuracy"``, for batches ``(inputs, target)`` whose model gives
            logits of classes or mappings with ``labels`` whose model gives ``.logits``, or a function ``metric(model, batch) -> float``.
            In eval mode and without gradients, after every step: on ``val_data`` where given, a mean by samples over its batches, else on
            the batch that the step was just trained on.
        per_group: Sweep every param group alone too, the others at LR zero, over its own share of the LR range, from the same weights and
            on the same data: ``curve.groups``, and ``curve.first_to_break``. A group whose base LR is zero or that is frozen is left out.
        start_lr: First learning rate.
        end_lr: Last learning rate.
        num_iter: Steps.
        mode: ``"exponential"``, or ``"linear"`` as in Smith's paper.
        stop_factor: Stop when the running median exceeds this times the best loss and 1.2 times the initial one.
        smoothing: Half-width of the smoothing window, as a share of ``num_iter``; 0 for none.
        seed: Of every random generator, hence of the data order.
        progress: Show a bar on stderr; None shows one on a terminal and in a notebook.
        device: Where batches are moved; None leaves them.
        accumulate: Micro-batches of one optimizer step, so of one step here. Each gradient is divided by this number, as usual; the last
            step of a pass may have fewer.
        autocast: A lower precision of the forward passes: a dtype such as ``torch.bfloat16``, or a function that returns a context manager.
        scaler: The ``torch.amp.GradScaler`` of the training; a step that it skips is made again at the same LR.
        clip_norm: Largest norm of the gradient before a step, as in ``torch.nn.utils.clip_grad_norm_``.
        clip_value: Largest magnitude of its entries, as in ``torch.nn.utils.clip_grad_value_``; applied first.
        step_fn: ``step_fn(batch) -> loss``, your whole training step in place of all that, backward pass and ``optimizer.step()`` included;
            ``model`` and ``optimizer`` may then be lists of several. With ``accumulate`` it gets a tuple of micro-batches.
        keep: Whatever else your loss, hooks or optimizer change and must come back: EMA copies, schedulers, a ``GradScaler``, generators.
        snapshot: Where the copy of what must come back lies: ``"device"`` beside the original, or ``"cpu"`` in the host's memory.

    Raises:
        ValueError, TypeError: If an argument cannot be right; nothing has moved yet.
        Exception: Whatever the model, loss, data or optimizer raised, with what was recorded as its ``curve``.
    """
    problem = Problem(
        model,
        optimizer,
        data,
        criterion,
        loss_fn=loss_fn,
        device=device,
        accumulate=accumulate,
        autocast=autocast,
        scaler=scaler,
        clip_norm=clip_norm,
        clip_value=clip_value,
        step_fn=step_fn,
    )
    problem.require_optimizer()
    settings = SweepSettings(Ramp(start_lr, end_lr, num_iter, mode), stop_factor, smoothing, seed)
    val_batches, judge = held_out(problem, val_data), find_metric(metric, problem.model)
    alone, left_out = groups_alone(problem, settings) if per_group else ([], [])
    extra = [] if val_batches is None else [val_batches.data]
    counting = [judge.function] if judge and isinstance(judge.function, nn.Module) else []  # metrics that are modules add up what they see
    kept = [*keep, *counting] if isinstance(keep, (list, tuple)) else keep
    recorded, bar = Recorded(), Progress(progress)
    with recorded.carried(), problem.preserved(*extra, keep=kept, snapshot=snapshot) as start, bar:
        problem.seed(seed)
        first = problem.check_first_loss()
        scores = scores_of(problem, val_batches, judge, seed)
        scores.check(first)
        start.restore()
        try:
            curve = sweep(problem, settings, first, bar, recorded, scores=scores)
            return sweep_groups(problem, start, (alone, left_out), curve, bar, recorded, scores) if alone else curve
        except KeyboardInterrupt:
            if recorded.curve is None:
                raise
            return recorded.curve


def sweep(
    problem: Problem,
    settings: SweepSettings,
    first_batch: Any,
    progress: Progress,
    recorded: Recorded,
    baseline: Floats | None = None,
    scores: Scores | None = None,
) -> LRCurve:
    """The sweep itself, inside ``preserved``: the weights move here. ``baseline``: what the same batches cost at the initial weights."""
    scores = scores or Scores(problem, settings.seed)
    steps = Steps([problem.optimizer], settings, baseline, readout=readout_for(problem, scores))
    size, samples = problem.team.total(batch_size(first_batch)), problem.team.total(problem.batches.samples)
    try:
        run(problem, steps, progress, scores)
    finally:
        curve = steps.curve(
            batch_size=size,
            samples=samples,
            model=problem.model_name,
            optimizer=" and ".join(map(describe_optimizer, problem.optimizers)),
            recipe=str(problem.recipe),
            scored_on="batch" if scores.scored is None else "val_data",
            metric_name=scores.metric.name if scores.metric else "",
        )
        recorded.add(curve)
    return curve
