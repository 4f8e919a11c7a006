"""``stable_lr``: curvature and the optimizer's own limit give the largest stable LR."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from hessian.curvature_settings import Along, CurvatureSettings, Method
from hessian.describe import describe_optimizer
from hessian.directional import descent_limit, update_direction
from hessian.doubts import CurvatureDoubt
from hessian.errors import CurvatureError
from hessian.geometry import OptimizerGeometry, prepare_geometry
from hessian.losses import LossFn
from hessian.nested import batch_size
from hessian.noise import curvature_variance, noise_limit
from hessian.operators.base import autocast_devices, watched
from hessian.operators.choice import make_operator, shares_of
from hessian.operators.finite_difference import FiniteDifferenceOperator
from hessian.operators.graphs import GRAPH_MEMORY, NoSecondDerivativeError
from hessian.operators.hessian import HessianOperator
from hessian.problem import Problem
from hessian.recipe import Autocast
from hessian.results import EigenResult, StableLR
from hessian.snapshot import Place
from hessian.solvers.krylov import Kept
from hessian.solvers.lanczos import lanczos

FIRST_STEP_HVPS = 12  # the step-0 preconditioner is wildly uneven, so its sharpness is only asked for roughly
UNSURE = 0.5  # relative error of the batches' variance; 1 if it comes from one batch alone, NaN if there are two
MANY = 32  # batches from which that error can be relied on under a preconditioner, which makes parameters large that few samples touch
INACCURATE = 0.1  # relative error of a finite difference beyond which it is doubted


def stable_lr(
    model: nn.Module,
    optimizer: Any,
    data: Any,
    criterion: Callable[..., Tensor] | None = None,
    *,
    loss_fn: LossFn | None = None,
    num_batches: int = 4,
    tol: float = 0.01,
    seed: int = 0,
    max_hvps: int = 60,
    method: Method = "auto",
    along: Along = "hessian",
    graph_memory: int = GRAPH_MEMORY,
    memory: Kept = "full",
    device: torch.device | str | None = None,
    accumulate: int = 1,
    autocast: Autocast | None = None,
    scaler: Any = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    keep: Sequence[Any] = (),
    snapshot: Place = "device",
) -> StableLR:
    """Largest LR at which the optimizer does not diverge on the quadratic that the loss is at the current weights.

    ``c / sharpness``, where ``c`` is the optimizer's (2 for gradient descent, 3.8 for momentum 0.9, 38 for Adam on its preconditioned
    Hessian) and sharpness the most positive eigenvalue of the Hessian over ``num_batches`` batches; or, if it is less, the LR at
    which the disagreement of those batches about the curvature lets the iterate grow in mean square. It says when the *first* steps
    break, without warm-up; it is not the best LR. An adaptive optimizer without history is first run for 16 steps at LR zero, so that
    its preconditioner is not that of a single batch. Nothing is left changed (see ``preserve``).

    Args:
        model: The model as it will be trained, in train or eval mode as it stands.
        optimizer: Any that has a limit (docs/formulas.md), or one registered with ``stability_limit``. Param groups keep their ratio.
        data: Batches that can be read more than once, or a function that returns one.
        criterion: ``criterion(model(inputs), target)`` for batches ``(inputs, target)`` or ``(input, another, ..., target)``.
        loss_fn: ``loss_fn(model, batch) -> scalar``, in its place.
        num_batches: Batches to average the Hessian over.
        tol: Relative accuracy of the sharpness.
        seed: Of the data order and the start vector.
        max_hvps: Most Hessian-vector products to make.
        method: ``"autograd"``, ``"finite_difference"``, or ``"auto"``: the second only where the model has no second derivative.
        along: ``"update"`` measures along the optimizer's next update only: the LR at which a step stops lowering the loss. It suits
            every optimizer, also those whose step does not shrink with the gradient (Lion, Muon), and is an upper bound for others.
        graph_memory: Bytes of graphs to keep; batches beyond it are run again for every product.
        memory: Where the vectors of ``lanczos`` lie, at most ``max_hvps`` times the size of the parameters: ``"full"`` beside the
            parameters, or ``"offload"`` in the host's memory.
        device: Where batches are moved; None leaves them.
        accumulate: Micro-batches of one optimizer step: ``num_batches`` counts such steps.
        autocast: A lower precision of the training's forward passes (a dtype, or a function that returns a context manager): the
            optimizer's history is made with it; curvature is measured in the precision of the weights.
        scaler: The ``torch.amp.GradScaler`` of the training.
        clip_norm: Largest norm of the gradient before a step, as in ``torch.nn.utils.clip_grad_norm_``; only the history sees it.
        clip_value: Largest magnitude of its entries.
        keep: Whatever else your loss, hooks or optimizer change and must come back: EMA copies, schedulers, a ``GradScaler``, generators.
        snapshot: Where the copy of all that lies, as in ``preserve``: ``"device"`` or ``"cpu"``.

    Raises:
        ValueError, TypeError: If an argument cannot be right; nothing has moved yet.
        CurvatureError: If the optimizer has no known limit, or the loss no upward curvature.
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
    )
    problem.require_optimizer()
    settings = CurvatureSettings(num_batches, tol, seed, max_hvps, method, along, graph_memory, memory)
    with problem.preserved(keep=keep, snapshot=snapshot) as start:
        problem.seed(settings.seed)
        problem.check_first_loss()
        start.restore()
        return measure_limit(problem, settings)


def measure_limit(problem: Problem, settings: CurvatureSettings) -> StableLR:
    """The measurement, inside ``preserved``: the optimizer's state moves here."""
    if settings.along == "update":
        batches = read_batches(problem, settings)
        update = update_direction(problem, batches[0])  # before the operator: a step invalidates kept graphs
        return by_method(settings, lambda chosen: descent_along(problem, chosen, batches, update))
    first, geometry, steps = prepare_geometry(problem, settings)
    return by_method(settings, lambda chosen: measure_along_hessian(problem, chosen, first, geometry, steps))


def by_method(settings: CurvatureSettings, measure: Callable[[CurvatureSettings], StableLR]) -> StableLR:
    """With the method asked for; ``"auto"`` falls back to finite differences where there is no second derivative."""
    if settings.method != "auto":
        return measure(settings)
    try:
        return measure(replace(settings, method="autograd"))
    except NoSecondDerivativeError:
        return measure(replace(settings, method="finite_difference"))


def measure_along_hessian(
    problem: Problem, settings: CurvatureSettings, first: OptimizerGeometry | None, geometry: OptimizerGeometry, steps: int
) -> StableLR:
    """The limit of the sharpest direction, in the geometry that ``steps`` of the pre-roll have prepared."""
    batches = read_batches(problem, settings)
    operator = make_operator(problem, batches, settings)  # after the pre-roll: stepping, even at LR zero, invalidates kept graphs
    top = top_eigenvalue(geometry.around(operator), settings)
    sharpness = float(top.values[0])
    curvature_lr = geometry.max_lr(sharpness)
    noise_lr, error = batch_noise_lr(problem, operator, geometry, top.vectors[:, 0], batches)
    doubts = doubts_of(problem, operator, top, batches)
    preconditioned = geometry.limit.preconditioner is not None
    if noise_lr is not None and noise_lr < curvature_lr and ((preconditioned and len(batches) < MANY) or not error <= UNSURE):
        doubts.append(CurvatureDoubt.NOISE_UNSURE)
    return StableLR(
        lr=min(curvature_lr, noise_lr or math.inf),
        curvature_lr=curvature_lr,
        noise_lr=noise_lr,
        first_step_lr=first_step_limit(first, operator, settings) if settings.first_step_for > curvature_lr else None,
        sharpness=sharpness,
        residual=float(top.residuals[0]),
        bound=top.bound,
        converged=top.converged,
        hvps=operator.products,
        gradients=steps + len(batches),
        formula=geometry.formula,
        derivation=geometry.derivation,
        preconditioned=preconditioned,
        by_parameter=shares_of(operator, top.vectors[:, 0]),
        doubts=tuple(doubts),
        **circumstances(problem, settings, batches),
    )


def first_step_limit(first: OptimizerGeometry | None, operator: Any, settings: CurvatureSettings) -> float | None:
    """The limit after one step; None where the optimizer has made several, or knows nothing yet (the variance of one gradient)."""
    if first is None or first.team.every(not first.scale.any()):
        return None
    rough = replace(settings, max_hvps=min(settings.max_hvps, FIRST_STEP_HVPS))
    return first.max_lr(float(top_eigenvalue(first.around(operator), rough).values[0]))


def circumstances(problem: Problem, settings: CurvatureSettings, batches: Sequence[Any]) -> dict[str, Any]:
    return {
        "method": settings.method,
        "along": settings.along,
        "mode": "train" if problem.modules[0].training else "eval",
        "num_batches": len(batches),
        "batch_size": problem.team.total(batch_size(batches[0])),
        "tol": settings.tol,
        "seed": settings.seed,
        "model": problem.model_name,
        "optimizer": describe_optimizer(problem.optimizer),
    }


def descent_along(problem: Problem, settings: CurvatureSettings, batches: Sequence[Any], update: Tensor) -> StableLR:
    """The descent limit along an update: ``2 / sharpness`` with the curvature ``u'Hu / -g'u``."""
    operator = make_operator(problem, batches, settings)
    lr = descent_limit(operator, operator.start_hint(), update)
    return StableLR(
        lr=lr,
        curvature_lr=lr,
        noise_lr=None,
        first_step_lr=None,
        sharpness=2 / lr,
        residual=0.0,
        bound=math.nan,
        converged=True,
        hvps=operator.products,
        gradients=1 + len(batches),
        formula="2 / (curvature along the update)",
        preconditioned=False,
        by_parameter=shares_of(operator, update),
        doubts=tuple(doubts_of(problem, operator, None, batches)),
        **circumstances(problem, settings, batches),
    )


def read_batches(problem: Problem, settings: CurvatureSettings) -> list[Any]:
    """The batches to measure on."""
    problem.seed(settings.seed)
    return problem.batches.take(settings.num_batches)


def top_eigenvalue(operator: Any, settings: CurvatureSettings) -> EigenResult:
    """The most positive eigenvalue; refuses one that is not positive."""
    most, how = settings.max_hvps, settings.memory
    top = lanczos(watched(operator, settings.told), tol=settings.tol, stop=settings.stop, max_iter=most, seed=settings.seed, memory=how)
    if not top.values[0] > 0:
        raise CurvatureError(
            f"the loss curves upward in no direction here (most positive eigenvalue {top.values[0]:.3g}), so curvature sets no limit; "
            "use lrfinder.range_test."
        )
    return top


def batch_noise_lr(
    problem: Problem, operator: Any, geometry: OptimizerGeometry, direction: Tensor, batches: Sequence[Any]
) -> tuple[float | None, float]:
    """The mini-batch limit along the sharpest direction, None where it cannot be told, and the relative error of the batches' variance."""
    limit = geometry.limit
    if len(batches) < 2 or limit.momentum is None or not isinstance(operator, HessianOperator):
        return None, math.nan
    curvature, variance, error = curvature_variance(operator, direction, geometry.scale)
    if not curvature > 0:
        return None, error
    variance /= problem.recipe.accumulate  # measured on micro-batches
    return noise_limit(curvature, variance, momentum=limit.momentum, averaged=limit.averaged), error


def doubts_of(problem: Problem, operator: Any, top: EigenResult | None, batches: Sequence[Any]) -> list[CurvatureDoubt]:
    """What is doubtful about a measurement."""
    doubts = []
    if top is not None and not top.converged:
        doubts.append(CurvatureDoubt.NOT_CONVERGED)
    if isinstance(operator, FiniteDifferenceOperator):
        doubts.append(CurvatureDoubt.SHARDED if operator.reduced else CurvatureDoubt.FINITE_DIFFERENCE)
        if operator.relative_error(operator.start_hint() if top is None else top.vectors[:, 0]) > INACCURATE:
            doubts.append(CurvatureDoubt.INACCURATE)
    elif operator.graphs.keep and not problem.team.every(not operator.graphs.recomputed):
        doubts.append(CurvatureDoubt.RECOMPUTED)
    if autocast_devices() or problem.recipe.autocast is not None:
        doubts.append(CurvatureDoubt.AUTOCAST)
    if operator.computed in (torch.float16, torch.bfloat16):
        doubts.append(CurvatureDoubt.LOW_PRECISION)
    if len(batches) == 1:
        doubts.append(CurvatureDoubt.NO_NOISE)
    return doubts
