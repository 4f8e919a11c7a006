"""What a sweep can record beside the loss: accuracy, or a function of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hessian.errors import BadArgument, BadType

MetricFn = Callable[[Any, Any], Any]
OWN = "pass metric=lambda model, batch: ..."


@dataclass(frozen=True)
class Metric:
    """A number for a batch, the larger the better."""

    name: str
    function: MetricFn


def find_metric(metric: Literal["accuracy"] | MetricFn | None, model: Any) -> Metric | None:
    if metric is None:
        return None
    if isinstance(metric, str):
        if metric != "accuracy":
            raise BadArgument(f"metric={metric!r} is unknown; pass 'accuracy', or a function metric(model, batch).")
        if not isinstance(model, nn.Module):
            raise BadArgument(f"metric='accuracy' needs one model, but model is a list of {len(model)}; {OWN}")
        return Metric(metric, accuracy)
    if not callable(metric):
        raise BadType(f"metric is a {type(metric).__name__}, which cannot be called; pass 'accuracy', or a function metric(model, batch).")
    name = getattr(metric, "__name__", type(metric).__name__)
    return Metric(name if name.isprintable() and name != "<lambda>" else "metric", metric)


def accuracy(model: Any, batch: Any) -> float:
    """Share of the samples whose largest logit is that of their class."""
    logits, target = outcome(model, batch)
    if not is_classification(logits, target):
        raise BadArgument(
            "accuracy needs logits of shape (samples, classes) and a whole number for each sample, "
            f"but the model gave {kind_of(logits)} and the target is {kind_of(target)}; {OWN}"
        )
    return float((logits.argmax(1) == target).double().mean())


def outcome(model: Any, batch: Any) -> tuple[Any, Any]:
    """What the model gives for a batch, and what it should."""
    if isinstance(batch, Mapping):
        if "labels" not in batch:
            raise BadArgument(f"accuracy needs the key 'labels' in the batch, which has {', '.join(map(str, batch)) or 'none'}; {OWN}")
        return logits_of(model(**batch)), batch["labels"]
    if not isinstance(batch, (list, tuple)) or len(batch) < 2:
        raise BadType(f"accuracy needs batches (inputs, target), or mappings with labels, but a batch is a {type(batch).__name__}; {OWN}")
    *inputs, target = batch
    return logits_of(model(*inputs)), target


def logits_of(output: Any) -> Any:
    """The output itself, or its ``logits``, as Hugging Face models give them."""
    return output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", output)


def is_classification(logits: Any, target: Any) -> bool:
    if not isinstance(logits, Tensor) or not isinstance(target, Tensor):
        return False
    whole = not (target.is_floating_point() or target.is_complex() or target.dtype is torch.bool)
    return whole and logits.ndim == 2 and logits.shape[1] > 1 and target.shape == logits.shape[:1] and len(target) > 0


def kind_of(value: Any) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
