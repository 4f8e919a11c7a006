"""Parameters, optimizers and models as real trainings have them: each is measured as it is, and nothing of it is left changed.

The oracle of every sweep is a loop written here, on a second copy of the training, with the same LRs: the losses are the same numbers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import pytest
import torch
from oracles import assert_untouched, fingerprint
from torch import Tensor, nn
from torch.nn import functional as F
from trainings import points

from hessian import stable_lr
from hessian.errors import BadArgument, CurvatureError
from lrfinder import LRSweep, find_lr, range_test

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what these import may have something to say
    from peft import LoraConfig, get_peft_model
    from transformers import GPT2Config, GPT2LMHeadModel


@dataclass
class Training:
    """All that one is made of; ``ratios`` are those that the LRs of its param groups should keep."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    data: Sequence[Any]
    loss_fn: Callable[[Any, Any], Tensor]
    ratios: Sequence[float] = (1.0,)

    @property
    def arguments(self) -> dict[str, Any]:
        return {"model": self.model, "optimizer": self.optimizer, "data": self.data, "loss_fn": self.loss_fn}

    def picture(self) -> dict[str, str]:
        return fingerprint(self.model, self.optimizer)


def classified(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def pairs(inputs: Callable[[Tensor], Tensor] = lambda x: x) -> list[tuple[Tensor, Tensor]]:
    """The usual points in batches of 16, their coordinates made into something else."""
    x, y = points()
    return list(zip(inputs(x).split(16), y.split(16), strict=True))


def words(x: Tensor) -> Tensor:
    """Five coordinates as numbers of words."""
    return (x[:, :5] * 2).round().long().clamp(-6, 6) + 6 + 13 * torch.arange(5)


# Frozen, adapted, tied ------------------------------------------------------------------------------------------------------------


def fine_tuning() -> Training:
    """A frozen layer in a group of its own, a slow one, and a fast head."""
    model = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))
    model[0].requires_grad_(False)
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters(), "lr": 1e-4}, {"params": model[4].parameters()}]
    return Training(model, torch.optim.AdamW(groups, lr=1e-3), pairs(), classified, (1.0, 0.1, 1.0))


class Adapted(nn.Module):
    """A frozen layer and a low-rank change of it, zero at first."""

    def __init__(self, inputs: int, outputs: int, rank: int = 2) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, inputs) / inputs)
        self.up = nn.Parameter(torch.zeros(outputs, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


def adapters() -> Training:
    model = nn.Sequential(Adapted(6, 16), nn.Tanh(), Adapted(16, 3))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Training(model, torch.optim.AdamW(trained, lr=1e-3), pairs(), classified)


def peft_lora() -> Training:
    """A tiny random GPT-2 with the adapters of peft: sentences that count upwards."""
    config = GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=24, n_positions=12)
    lora = LoraConfig(r=2, lora_dropout=0.1, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
    model = get_peft_model(GPT2LMHeadModel(config), lora)
    start = torch.arange(96) % 12
    numbers = (start[:, None] + torch.arange(10)).split(16)
    data = [{"input_ids": ids, "labels": ids} for ids in numbers]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return Training(model, torch.optim.AdamW(trained, lr=1e-3), data, lambda net, batch: net(**batch).loss)


class Tied(nn.Module):
    """One matrix to read words and to write them."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(65, 8)
        self.middle = nn.Linear(8, 8)
        self.head = nn.Linear(8, 65, bias=False)
        self.head.weight = self.words.weight

    def forward(self, numbers: Tensor) -> Tensor:
        return self.head(torch.tanh(self.middle(self.words(numbers).mean(1))))


def tied() -> Training:
    model = Tied()
    return Training(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), pairs(words), classified)


# Sparse gradients, complex weights ------------------------------------------------------------------------------------------------


class Bag(nn.Module):
    """Words by their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(65, 8, sparse=True)
        self.head = nn.Linear(8, 3)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.head(self.words(numbers).mean(1))


def sparse_sgd() -> Training:
    model = Bag()
    return Training(model, torch.optim.SGD(model.parameters(), lr=0.1), pairs(words), classified)


def sparse_adam() -> Training:
    model = Bag()
    return Training(model, torch.optim.SparseAdam(model.words.parameters(), lr=0.01), pairs(words), classified)


class Waves(nn.Module):
    """A complex layer between real ones."""

    def __init__(self) -> None:
        super().__init__()
        self.waves = nn.Linear(6, 8, dtype=torch.complex64)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.waves(x.to(torch.complex64)).abs())


def complex_adam() -> Training:
    model = Waves()
    return Training(model, torch.optim.Adam(model.parameters(), lr=1e-3), pairs(), classified)


# Learning rates that are tensors --------------------------------------------------------------------------------------------------


def small_net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def tensor_lr() -> Training:
    model = small_net()
    return Training(model, torch.optim.Adam(model.parameters(), lr=torch.tensor(1e-3)), pairs(), classified)


def tensor_lrs() -> Training:
    model, lrs = small_net(), [torch.tensor(1e-3), torch.tensor(1e-2)]
    groups = [{"params": layer.parameters(), "lr": lr} for layer, lr in zip((model[0], model[2]), lrs, strict=True)]
    return Training(model, torch.optim.SGD(groups, momentum=0.9), pairs(), classified, (float(lrs[0]) / float(lrs[1]), 1.0))


def fused() -> Training:
    model = small_net()
    return Training(model, torch.optim.AdamW(model.parameters(), lr=torch.tensor(1e-3), fused=True), pairs(), classified)


def foreach() -> Training:
    model = small_net()
    return Training(model, torch.optim.Adam(model.parameters(), lr=1e-3, foreach=True), pairs(), classified)


# Architectures --------------------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """One layer of attention over words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(65, 8)
        self.attention = nn.MultiheadAttention(8, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, numbers: Tensor) -> Tensor:
        read = self.words(numbers)
        return self.head((read + self.attention(read, read, read, need_weights=False)[0]).mean(1))


def attention() -> Training:
    model = Attention()
    return Training(model, torch.optim.AdamW(model.parameters(), lr=1e-3), pairs(words), classified)


class Recurrent(nn.Module):
    """An LSTM over words."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(65, 8)
        self.cells = nn.LSTM(8, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.head(self.cells(self.words(numbers))[1][0][0])


def recurrent() -> Training:
    model = Recurrent()
    return Training(model, torch.optim.Adam(model.parameters(), lr=1e-3), pairs(words), classified)


class Messages(nn.Module):
    """Nodes of graphs that add up what their neighbours say."""

    def __init__(self) -> None:
        super().__init__()
        self.say = nn.Linear(6, 8)
        self.head = nn.Linear(14, 3)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        heard = torch.zeros(len(nodes), 8).index_add_(0, edges[1], torch.relu(self.say(nodes[edges[0]])))
        return self.head(torch.cat([nodes, heard], dim=1))


@dataclass(frozen=True)
class Graph:
    nodes: Tensor
    edges: Tensor
    classes: Tensor


def graphs() -> Training:
    """Nodes whose neighbours are mostly of their own class."""
    data = []
    for x, y in pairs():
        sources, targets = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
        near = (y[sources] == y[targets]) & (sources != targets)
        data.append(Graph(x, torch.stack([sources[near], targets[near]]), y))
    model = Messages()
    loss = lambda net, graph: F.cross_entropy(net(graph.nodes, graph.edges), graph.classes)  # noqa: E731
    return Training(model, torch.optim.Adam(model.parameters(), lr=1e-3), data, loss)


class UNet(nn.Module):
    """Down, up, and across; told how noisy the picture is."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.down = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self.norm, self.up = nn.GroupNorm(2, 8), nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.leave = nn.Conv2d(16, 1, 3, padding=1)

    def forward(self, picture: Tensor, level: Tensor) -> Tensor:
        told = torch.cat([picture, level[:, None, None, None].expand_as(picture)], dim=1)
        high = F.silu(self.enter(told))
        low = self.up(F.silu(self.norm(self.down(high))))
        return self.leave(torch.cat([high, low], dim=1))


def denoising(model: nn.Module, pictures: Tensor) -> Tensor:
    """The noise is drawn here, in every step anew."""
    level = torch.rand(len(pictures))
    noise = torch.randn_like(pictures)
    share = level[:, None, None, None]
    return F.mse_loss(model((1 - share).sqrt() * pictures + share.sqrt() * noise, level), noise)


def diffusion() -> Training:
    x, _ = points()
    bars = (x[:, :1, None, None] / 2).expand(-1, 1, 8, 8) * torch.linspace(-1, 1, 8)
    model = UNet()
    return Training(model, torch.optim.AdamW(model.parameters(), lr=1e-3), bars.contiguous().split(16), denoising)


TRAININGS = {
    made.__name__: made
    for made in (
        *(fine_tuning, adapters, peft_lora, tied, sparse_sgd, sparse_adam, complex_adam),
        *(tensor_lr, tensor_lrs, fused, foreach, attention, recurrent, graphs, diffusion),
    )
}
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # between peft and transformers
every_training = pytest.mark.parametrize("kind", TRAININGS)


def make(kind: str) -> Training:
    """The same training every time."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(4)
        return TRAININGS[kind]()


def losses_by_hand(training: Training, lrs: Sequence[float]) -> list[float]:
    """An ordinary loop with these LRs, from the same random state."""
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for lr, batch in zip(lrs, cycle(training.data), strict=False):
            for group, ratio in zip(training.optimizer.param_groups, training.ratios, strict=True):
                group["lr"] = torch.tensor(lr * ratio) if isinstance(group["lr"], Tensor) else lr * ratio
            training.optimizer.zero_grad()
            loss = training.loss_fn(training.model, batch)
            loss.backward()
            training.optimizer.step()
            losses.append(loss.item())
    return losses


# Every one of them ----------------------------------------------------------------------------------------------------------------


@every_training
def test_a_sweep_is_the_training_by_hand_and_leaves_nothing(kind):
    training = make(kind)
    before = training.picture()
    curve = range_test(**training.arguments, num_iter=40, end_lr=1.0, progress=False)
    assert_untouched(before, training.picture())
    assert len(curve.losses) > 20
    assert curve.losses.tolist() == losses_by_hand(make(kind), curve.lrs.tolist())


@every_training
def test_find_lr_takes_it_and_leaves_nothing(kind):
    training = make(kind)
    before = training.picture()
    found = find_lr(**training.arguments, budget=150, total_steps=200, progress=False)
    assert_untouched(before, training.picture())
    assert found.confirmation.passed
    assert (found.limit is None) == (found.no_limit is not None) == (kind == "sparse_adam")


@every_training
def test_stable_lr_takes_it_and_leaves_nothing(kind):
    training = make(kind)
    before = training.picture()
    if kind == "sparse_adam":
        with pytest.raises(CurvatureError, match=r"no linear stability limit is known for SparseAdam.*along='update'"):
            stable_lr(**training.arguments, tol=0.1)
    else:
        found = stable_lr(**training.arguments, tol=0.1)
        trained = {name for name, parameter in training.model.named_parameters() if parameter.requires_grad}
        assert found.by_parameter.keys() == trained
        assert sum(found.by_parameter.values()) == pytest.approx(1, abs=1e-5)
        assert found.lr > 0
    assert_untouched(before, training.picture())


@every_training
def test_so_does_the_limit_along_its_update(kind):
    training = make(kind)
    before = training.picture()
    if kind == "peft_lora":  # at the start one factor of every adapter is zero: a saddle
        with pytest.raises(CurvatureError, match="curves downward along the optimizer's next update"):
            stable_lr(**training.arguments, along="update")
    else:
        assert stable_lr(**training.arguments, along="update").lr > 0
    assert_untouched(before, training.picture())


# Single ones ----------------------------------------------------------------------------------------------------------------------


def step(training: Training, batch: Any, optimizers: Sequence[torch.optim.Optimizer]) -> Tensor:
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss = training.loss_fn(training.model, batch)
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return loss


def test_embeddings_with_an_optimizer_of_their_own_are_swept_together():
    def pair() -> tuple[Training, list[torch.optim.Optimizer]]:
        training = make("sparse_adam")
        return training, [training.optimizer, torch.optim.Adam(training.model.head.parameters(), lr=1e-3)]

    training, optimizers = pair()
    before = [fingerprint(training.model, optimizer) for optimizer in optimizers]
    with LRSweep(training.model, optimizers, end_lr=1.0, num_iter=40, progress=False) as sweep:
        for batch in sweep(training.data):
            assert optimizers[1].param_groups[0]["lr"] == pytest.approx(optimizers[0].param_groups[0]["lr"] / 10)
            sweep.report(step(training, batch, optimizers))
    for picture, optimizer in zip(before, optimizers, strict=True):
        assert_untouched(picture, fingerprint(training.model, optimizer))
    twin, both = pair()
    losses = []
    for lr, batch in zip(sweep.curve.lrs.tolist(), cycle(twin.data), strict=False):
        both[0].param_groups[0]["lr"], both[1].param_groups[0]["lr"] = lr, lr * 0.1
        losses.append(step(twin, batch, both).item())
    assert sweep.curve.losses.tolist() == losses


def test_gradients_without_zeros_that_wait_for_a_step_come_back():
    training = make("sparse_sgd")
    training.loss_fn(training.model, training.data[0]).backward()
    before = training.picture()
    assert training.model.words.weight.grad.is_sparse
    range_test(**training.arguments, num_iter=40, progress=False)
    stable_lr(**training.arguments)
    assert_untouched(before, training.picture())


def test_a_frozen_layer_has_no_part_in_the_measurement():
    """The same with it in the optimizer or not."""
    training, without = make("fine_tuning"), make("fine_tuning")
    del without.optimizer.param_groups[0]
    found = [stable_lr(**one.arguments).lr for one in (training, without)]
    assert found[0] == found[1]


def test_a_tied_matrix_is_one_parameter():
    found = stable_lr(**make("tied").arguments)
    assert "head.weight" not in found.by_parameter


def test_tensor_lrs_are_the_same_tensors_with_the_same_values():
    training = make("tensor_lrs")
    lrs = [group["lr"] for group in training.optimizer.param_groups]
    find_lr(**training.arguments, budget=60, progress=False).apply(training.optimizer)
    assert all(group["lr"] is lr for group, lr in zip(training.optimizer.param_groups, lrs, strict=True))
    assert lrs[0] == pytest.approx(float(lrs[1]) / 10)


LATER = {
    "lazy": (lambda: nn.LazyLinear(3), "has no shape yet .lazy module.; run one batch through the model first"),
    "meta": (lambda: nn.Linear(6, 3, device="meta"), "is on the meta device and has no values; load the weights first"),
}


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("measure", [find_lr, range_test, stable_lr, LRSweep])
def test_weights_that_are_not_there_yet_are_asked_for(name, measure):
    layer, sentence = LATER[name]
    model = nn.Sequential(nn.Linear(6, 6), layer())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(BadArgument, match=sentence):
        measure(model, optimizer, **({} if measure is LRSweep else {"data": pairs(), "criterion": nn.CrossEntropyLoss()}))


def test_a_lazy_layer_that_has_seen_a_batch_is_like_any_other():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = nn.Sequential(nn.LazyLinear(16), nn.Tanh(), nn.LazyLinear(3))
        model(pairs()[0][0])
    training = Training(model, torch.optim.SGD(model.parameters(), lr=0.1), pairs(), classified)
    before = training.picture()
    assert find_lr(**training.arguments, budget=60, progress=False).confirmation.passed
    assert_untouched(before, training.picture())
