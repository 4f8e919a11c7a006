"""Twice-differentiable gradients of batches: kept while they fit a memory budget, recomputed with the same random numbers beyond."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hessian.errors import CurvatureError
from hessian.nested import micro_batches
from hessian.operators.base import full_precision
from hessian.problem import Problem
from hessian.sharded import divided, local
from hessian.snapshot import keep_random_state
from hessian.vectors import dense

GRAPH_MEMORY = 2**30  # bytes of graphs kept by default: four batches of most small models, one of a large one
# Which kernels are allowed is said to all threads: each must put back what it found before the next looks.
PROCESS_FLAGS = threading.RLock()

Value = TypeVar("Value")
Graph = Any  # whatever a build function returns: tensors whose graphs hold the memory


@dataclass
class BatchGraphs:
    """One differentiable graph a batch, in order, as ``build(batch)`` makes it, with the batch's share of the samples.

    Dropout masks and batch statistics are the same whenever a graph is recomputed: every batch has its own saved generator state.

    Args:
        memory: Bytes of graphs to keep; the first is always kept.
        keep: Whether any is kept.
    """

    problem: Problem
    batches: Sequence[Any]
    build: Callable[[Any], Graph]
    memory: int = GRAPH_MEMORY
    keep: bool = True

    def __post_init__(self) -> None:
        self.batches, self.shares = micro_batches(self.batches)
        self.kept: list[Graph | None] = []
        self.recomputed = 0
        self._random: list[Callable[[], None]] = []
        used, largest = 0, 0
        for batch in self.batches:
            self._random.append(keep_random_state())
            fits = self.keep and (not self.kept or used + largest <= self.memory)
            graph, size = self._make(batch, count=len(self.batches) > 1) if fits else (None, 0)
            used, largest = used + size, max(largest, size)
            self.kept.append(graph)
            if graph is None:
                self._advance_random(batch)

    def _advance_random(self, batch: Any) -> None:
        """Draw what a forward pass draws, so that later batches see the numbers they would see if all graphs were kept."""
        with torch.no_grad(), copied_buffers(self.problem.modules), differentiable_twice(self.problem.modules):
            self.problem.loss_in_full(batch)

    def mean(self, use: Callable[[Graph], Tensor]) -> Tensor:
        """Mean of ``use(graph)``, a new tensor every time, over the samples."""
        return reduce(torch.Tensor.add_, (value.mul_(share) for value, share in self.map(use)))

    def map(self, use: Callable[[Graph], Value]) -> Iterator[tuple[Value, float]]:
        """``use(graph)`` and the share of every batch. A graph that was not kept is gone before the next is made: nobody else holds it."""
        for index, batch in enumerate(self.batches):
            kept = self.kept[index]
            yield use(self._again(index, batch) if kept is None else kept), self.shares[index]

    def _again(self, index: int, batch: Any) -> Graph:
        restore = keep_random_state()
        self._random[index]()
        try:
            self.recomputed += 1
            return self._make(batch, count=False)[0]
        finally:
            restore()

    def _make(self, batch: Any, *, count: bool) -> tuple[Graph, int]:
        modules = self.problem.modules
        counting: AbstractContextManager[dict[int, int]] = counting_saved_bytes() if count else nullcontext({})
        with counting as sizes, copied_buffers(modules), differentiable_twice(modules), second_derivative():
            graph = self.build(batch)
        return graph, sum(sizes.values())


@contextmanager
def copied_buffers(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Give the forward pass copies of the buffers: it may write to them, and the graph that is kept may refer to what it wrote."""
    registries = (module._buffers for root in modules for module in root.modules() if isinstance(module._buffers, dict))
    kept = [(registry, dict(registry)) for registry in registries]
    copies = {id(buffer): buffer.clone() for _, entries in kept for buffer in entries.values() if buffer is not None}
    for registry, entries in kept:
        registry.update({name: copies.get(id(buffer)) for name, buffer in entries.items()})
    try:
        yield
    finally:
        for registry, entries in kept:
            registry.update(entries)


@contextmanager
def counting_saved_bytes() -> Iterator[dict[int, int]]:
    """Bytes that autograd saves for the backward passes, by storage: what keeping the graph costs."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.layout is torch.strided:  # a sparse gradient holds as much as a batch has rows, which is next to nothing
            storage = local(tensor).untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # the tensor itself would keep its own graph alive for ever

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes


@contextmanager
def differentiable_twice(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Run a forward pass through kernels that have a second derivative, in full precision.

    Fused attention, compiled graphs and cuDNN's recurrent layers have none; products of bfloat16 activations would be noise.
    """
    recurrent = any(isinstance(layer, nn.RNNBase) for module in modules for layer in module.modules())
    plain = torch.backends.cudnn.flags(enabled=False) if recurrent else nullcontext()
    with PROCESS_FLAGS, sdpa_kernel(SDPBackend.MATH), torch.compiler.set_stance("force_eager"), full_precision(), plain:
        yield


@contextmanager
def second_derivative() -> Iterator[None]:
    """Differentiate in full precision (autocast reaches backward passes too); turn torch's ways to say "no" into one sentence."""
    try:
        with full_precision():
            yield
    except RuntimeError as error:
        text = str(error)
        if "derivative for" in text or "is not implemented" in text or "double backward" in text.lower():
            raise no_second_derivative(text.splitlines()[0].rstrip(".")) from error
        raise


def derivative(entries: Sequence[Tensor], inputs: Sequence[Tensor], directions: Sequence[Tensor]) -> Sequence[Tensor]:
    """Derivative of ``<entries, directions>`` in ``inputs``, the graph kept; entries without a graph (of a linear loss) add nothing."""
    live = [(entry, direction) for entry, direction in zip(entries, directions, strict=True) if entry.requires_grad]
    if not live:
        return [torch.zeros_like(tensor) for tensor in inputs]
    outputs, upstream = zip(*live, strict=True)
    with second_derivative():
        return torch.autograd.grad(outputs, inputs, upstream, retain_graph=True, allow_unused=True, materialize_grads=True)


def gradient_with_graph(output: Tensor, parameters: Sequence[Tensor], upstream: Tensor) -> list[Tensor]:
    """Derivative of ``<output, upstream>`` that can be differentiated again."""
    with torch.enable_grad():
        gradient = torch.autograd.grad(output, parameters, upstream, create_graph=True, allow_unused=True, materialize_grads=True)
        check_graph(gradient)
        return [divided(dense(entry), parameter) for entry, parameter in zip(gradient, parameters, strict=True)]


def check_graph(gradient: Sequence[Tensor]) -> None:
    """Refuse a gradient with a ``once_differentiable`` function in it: torch's node for that leads nowhere and so counts as zero."""
    seen: set[Any] = set()
    waiting = [entry.grad_fn for entry in gradient]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if node.name() == "torch::autograd::Error":
            raise no_second_derivative("a custom function is marked once_differentiable")
        seen.add(node)
        waiting.extend(following for following, _ in node.next_functions)


def no_second_derivative(cause: str) -> CurvatureError:
    return NoSecondDerivativeError(
        f"the Hessian-vector product failed: {cause}. The model uses an operation without a second derivative; "
        "pass method='finite_difference', or replace that operation by one written in plain torch."
    )


def too_old(what: str) -> CurvatureError:
    return NoSecondDerivativeError(
        f"torch {torch.__version__} cannot differentiate {what} twice; install a newer one, or pass method='finite_difference'."
    )


class NoSecondDerivativeError(CurvatureError):
    """The model uses an operation that cannot be differentiated twice."""
