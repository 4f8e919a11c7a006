"""The Hessian of the loss over some batches, by double backward with the graph kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from hessian.batches import batch_size
from hessian.errors import CurvatureError
from hessian.operators.base import CurvatureOperator
from hessian.problem import Problem
from hessian.vectors import flatten, unflatten


class HessianOperator(CurvatureOperator):
    """Hessian of the mean loss over ``batches``, each weighted by its number of samples.

    The forward pass and the first backward pass run once, here; every product is one more backward pass through the kept graph
    (Pearlmutter 1994). So dropout masks and batch statistics are the same for every product, and memory holds one graph a batch.
    Buffers (running statistics) are as before afterwards.

    Args:
        problem: The model and its loss; its ``parameters``, in order, are the coordinates.
        batches: The batches, already on the model's device.

    Raises:
        CurvatureError: If an operation in the model has no second derivative.

    Example:
        >>> import torch
        >>> from hessian import HessianOperator, Problem
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> batch = (torch.eye(2), torch.zeros(2, 1))  # loss = (w1^2 + w2^2) / 2
        >>> HessianOperator(Problem(model, None, [batch], torch.nn.MSELoss()), [batch]) @ torch.tensor([3.0, 4.0])
        tensor([3., 4.])
    """

    def __init__(self, problem: Problem, batches: Sequence[Any]) -> None:
        self.parameters = list(problem.parameters.values())
        super().__init__(sum(parameter.numel() for parameter in self.parameters), self.parameters[0].detach())
        sizes = [batch_size(batch) or 1 for batch in batches]
        self.weights = [size / sum(sizes) for size in sizes]
        self.gradients = [self._gradient(problem, batch) for batch in batches]

    def _gradient(self, problem: Problem, batch: Any) -> list[Tensor]:
        with differentiable_twice(), second_derivative(), copied_buffers(problem.modules):
            loss = problem.loss(batch)
            seed = torch.ones_like(loss, requires_grad=True)  # without it a custom function next to the loss leaves no node to be checked
            gradient = torch.autograd.grad(loss, self.parameters, seed, create_graph=True, allow_unused=True, materialize_grads=True)
        check_graph(gradient)
        return list(gradient)

    def _product(self, vector: Tensor) -> Tensor:
        parts = unflatten(vector, self.parameters)
        total = torch.zeros_like(vector)
        for gradient, weight in zip(self.gradients, self.weights, strict=True):
            total += weight * flatten(self._differentiate(gradient, parts))
        return total

    def _differentiate(self, gradient: list[Tensor], parts: list[Tensor]) -> Sequence[Tensor]:
        """Derivative of ``<gradient, parts>``; gradients that depend on no weight (a linear loss) contribute nothing."""
        live = [(entry, part) for entry, part in zip(gradient, parts, strict=True) if entry.requires_grad]
        if not live:
            return [torch.zeros_like(parameter) for parameter in self.parameters]
        entries, directions = zip(*live, strict=True)
        with second_derivative():
            return torch.autograd.grad(entries, self.parameters, directions, retain_graph=True, allow_unused=True, materialize_grads=True)

    def start_hint(self) -> Tensor:
        """The gradient: early in training it leans towards the sharp directions."""
        total = torch.zeros(self.size, dtype=self.like.dtype, device=self.like.device)
        for gradient, weight in zip(self.gradients, self.weights, strict=True):
            total += weight * flatten(gradient).detach()
        return total


@contextmanager
def copied_buffers(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Give the forward pass copies of the buffers: it may write to them, and the graph that is kept may refer to what it wrote."""
    registries = [module._buffers for root in modules for module in root.modules() if isinstance(module._buffers, dict)]
    kept = [dict(registry) for registry in registries]
    copies = {id(buffer): buffer.clone() for entries in kept for buffer in entries.values() if buffer is not None}
    for registry, entries in zip(registries, kept, strict=True):
        registry.update({name: copies.get(id(buffer)) for name, buffer in entries.items()})
    try:
        yield
    finally:
        for registry, entries in zip(registries, kept, strict=True):
            registry.update(entries)


@contextmanager
def differentiable_twice() -> Iterator[None]:
    """Run a forward pass through kernels that have a second derivative: the fused attention and compiled graphs have none."""
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


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


@contextmanager
def second_derivative() -> Iterator[None]:
    """Turn torch's ways to say "no second derivative" into one sentence."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        if "derivative for" in text or "is not implemented" in text or "double backward" in text.lower():
            raise no_second_derivative(text.splitlines()[0].rstrip(".")) from error
        raise


def no_second_derivative(cause: str) -> CurvatureError:
    return CurvatureError(
        f"the Hessian-vector product failed: {cause}. The model uses an operation without a second derivative; "
        "use lrfinder.range_test, or replace that operation by one written in plain torch."
    )
