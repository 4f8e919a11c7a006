"""The Hessian-free learning rate estimate of Smith and Topin (2017), beside the true limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim import SGD

import hessian
from common.data import DATA, Data
from common.report import Claim
from common.statistics import spread
from common.training import Order, Training, make_net

MEMORY = 0.95  # of the running means that the estimate is a ratio of
BATCHES = 8  # for the secant with both gradients on one batch
LARGE = 512  # samples that the limit is measured with
KINDS = {"published": "as published", "same_batch": "both gradients on one batch", "limit": "true limit, 2 / sharpness"}


def estimates(plan: Training, readings: int) -> dict[str, Any]:
    """Plain SGD at a constant LR from one seed; at so many readings the paper's estimate, the same-batch one and the limit.

    Three iterates in a row give ``lr sum |w1 - w0| / sum |2 w1 - w0 - w2|``, both sums as running means.
    """
    data, (seed,) = DATA[plan.data](), plan.seeds
    net, order = make_net(plan.net, seed, plan.dropout), Order(len(data.inputs), plan.labels, plan.batch, seed)
    found: dict[str, Any] = {"steps": [], "published": [], "same_batch": [], "limit": []}
    moved, bent, iterates = 0.0, 0.0, [weights(net)]
    for step in range(1, plan.steps + 1):
        iterates = [*iterates[-2:], iterates[-1] - plan.lr * gradient(net, data, next(order))]
        vector_to_parameters(iterates[-1], net.parameters())
        if len(iterates) == 3:
            before, now, after = iterates
            moved = MEMORY * moved + float((now - before).abs().sum())
            bent = MEMORY * bent + float((2 * now - before - after).abs().sum())
        if step % (plan.steps // readings) == 0:
            found["steps"].append(step)
            found["published"].append(plan.lr * moved / bent)
            found["same_batch"].append(same_batch(net, data, order, plan.lr))
            found["limit"].append(limit(net, data, seed))
    return found


def weights(net: nn.Module) -> Tensor:
    return parameters_to_vector(net.parameters()).detach()


def gradient(net: nn.Module, data: Data, chosen: Tensor) -> Tensor:
    """Of the loss on these samples, as one vector."""
    net.zero_grad()
    F.cross_entropy(net(data.inputs[chosen]), data.targets[chosen]).backward()
    return parameters_to_vector(weight.grad for weight in net.parameters() if weight.grad is not None)


def same_batch(net: nn.Module, data: Data, order: Order, lr: float) -> float:
    """The estimate with both gradients on one batch: how far the gradient changes is then curvature, and not another batch."""
    here, before, change = weights(net), 0.0, 0.0
    for _ in range(BATCHES):
        chosen = next(order)
        first = gradient(net, data, chosen)
        vector_to_parameters(here - lr * first, net.parameters())
        change += float((gradient(net, data, chosen) - first).abs().sum())
        before += float(first.abs().sum())
        vector_to_parameters(here, net.parameters())
    return lr * before / change


def limit(net: nn.Module, data: Data, seed: int) -> float:
    """The largest stable LR of plain gradient descent on one large batch, ``2 / sharpness``."""
    chosen = next(Order(len(data.inputs), 1.0, LARGE, seed))
    batch = [(data.inputs[chosen], data.targets[chosen])]
    return hessian.stable_lr(net, SGD(net.parameters(), 1.0), batch, nn.CrossEntropyLoss()).lr


def echo_claim(found: dict[str, Any]) -> Claim:
    slopes = {name: [slope(found, name, seed) for seed in range(len(next(iter(found.values()))))] for name in KINDS}
    ends = ", ".join(f"{np.median([curve['published'][-1] for curve in curves]):.2g} at {lr}" for lr, curves in found.items())
    published = float(np.median(slopes["published"]))
    return Claim(
        claim="Differences of three iterates in a row tell how large a learning rate may be, without the Hessian",
        paper="large estimates along the training of ResNet-56, which justify a large learning rate",
        figure=f"an echo of the training LR: slope {published:.2f}" if published > 0.5 else f"slope {published:.2f} against training LR",
        ours=f"estimates at the end, by training LR: {ends}. Of log estimate against log training LR the slope is "
        f"{spread(slopes['published'], 2)} (1 is an echo, 0 a property of the net), with both gradients on one batch "
        f"{spread(slopes['same_batch'], 2)}, of the true limit {spread(slopes['limit'], 2)}",
        held="no" if published > 0.5 else "partly" if published > 0.25 else "yes",
        seeds=len(slopes["published"]),
    )


def slope(found: dict[str, Any], name: str, seed: int) -> float:
    """Of the last readings, both axes logarithmic."""
    return float(np.polyfit(np.log([float(lr) for lr in found]), np.log([curves[seed][name][-1] for curves in found.values()]), 1)[0])


def draw_course(ax: Axes, found: dict[str, Any]) -> None:
    """Published estimate and true limit along the trainings, medians over seeds."""
    for index, (lr, curves) in enumerate(found.items()):
        for name, line in (("published", "-"), ("limit", ":")):
            median = np.median([curve[name] for curve in curves], axis=0)
            label = f"training LR {lr}" if name == "published" else None
            ax.plot(curves[0]["steps"], median, line, color=f"C{index}", marker=".", label=label)
    ax.plot([], [], ":k", label="true limit")
    ax.set(yscale="log", xlabel="iterations", ylabel="estimated LR", title="published estimate along training")
    ax.set_ylim(top=10 * ax.get_ylim()[1])  # room for the legend
    ax.legend(fontsize=8, loc="upper center", ncols=2)


def draw_echo(ax: Axes, found: dict[str, Any]) -> None:
    """The last readings against the training LR."""
    lrs = [float(lr) for lr in found]
    for (name, label), color in zip(KINDS.items(), ("C3", "C0", "k"), strict=True):
        ax.plot(lrs, [np.median([curve[name][-1] for curve in curves]) for curves in found.values()], color=color, marker="o", label=label)
    ax.plot(lrs, lrs, color="C7", linestyle=":", label="the training LR itself")
    ax.set(xscale="log", yscale="log", xlabel="training LR", ylabel="estimated LR", title="its end, by training LR")
    ax.legend(fontsize=8)
