"""Complex parameters and sparse gradients: the curvature is that of the same model in real, dense coordinates."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from oracles import assert_untouched, dense_hessian, fingerprint
from torch import Tensor, nn

from hessian import GGNOperator, HessianOperator, Problem, StableLR, stable_lr
from hessian.errors import BadType, CurvatureError
from hessian.operators.finite_difference import FiniteDifferenceOperator
from hessian.vectors import flatten, unflatten

DOUBLE = {"dtype": torch.float64}


def seeded(make: Any) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(3)
        return make()


class ComplexNet(nn.Module):
    """A complex layer and a real one; with ``real=True`` the same function of pairs of real numbers."""

    def __init__(self, *, real: bool) -> None:
        super().__init__()
        self.real = real
        weight, bias = torch.randn(4, 3, dtype=torch.complex128), torch.randn(4, dtype=torch.complex128)
        self.weight = nn.Parameter(torch.view_as_real(weight).clone() if real else weight)
        self.bias = nn.Parameter(torch.view_as_real(bias).clone() if real else bias)
        self.head = nn.Linear(8, 3, **DOUBLE)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = (torch.complex(*part.unbind(-1)) if self.real else part for part in (self.weight, self.bias))
        hidden = torch.tanh(x.to(weight.dtype) @ weight.T + bias) / 2
        return self.head(torch.view_as_real(hidden).flatten(1))


class WordNet(nn.Module):
    """Embeddings, once by layer and once in bags, and a head."""

    def __init__(self, *, sparse: bool, bags: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 4, sparse=sparse, **DOUBLE)
        self.bags = nn.EmbeddingBag(9, 4, sparse=sparse, mode="sum", **DOUBLE) if bags else None
        self.head = nn.Linear(4, 3, **DOUBLE)

    def forward(self, numbers: Tensor) -> Tensor:
        hidden = torch.tanh(self.words(numbers).mean(1))
        return self.head(hidden if self.bags is None else hidden + self.bags(numbers))


def problem_of(model: nn.Module, optimizer: Any = None) -> Problem:
    return Problem(model, optimizer, batches(model), nn.CrossEntropyLoss())


def batches(model: nn.Module) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(3, (24,), generator=generator)
    words = torch.randint(9, (24, 5), generator=generator)
    inputs = torch.randn(24, 3, generator=generator, **DOUBLE) + target[:, None] if isinstance(model, ComplexNet) else words
    return list(zip(inputs.split(6), target.split(6), strict=True))


OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "SGD momentum and decay": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "Adam amsgrad": lambda parameters: torch.optim.Adam(parameters, lr=0.01, amsgrad=True),
    "AdamW": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "NAdam": lambda parameters: torch.optim.NAdam(parameters, lr=0.01),
    "RMSprop": lambda parameters: torch.optim.RMSprop(parameters, lr=0.01, centered=True),
    "Adagrad": lambda parameters: torch.optim.Adagrad(parameters, lr=0.01),
    "Adadelta": lambda parameters: torch.optim.Adadelta(parameters, lr=1.0),
    "Adamax": lambda parameters: torch.optim.Adamax(parameters, lr=0.01),
}
TWINS = {
    "complex": (lambda: ComplexNet(real=False), lambda: ComplexNet(real=True)),
    "sparse": (lambda: WordNet(sparse=True), lambda: WordNet(sparse=False)),
}
SPARSE_TOO = {"SGD", "Adagrad"}  # of torch's; the others refuse sparse gradients, or treat rows that are not in a batch otherwise
EVERY = [pytest.param("complex", name, id=f"complex-{name}") for name in OPTIMIZERS] + [
    pytest.param("sparse", name, id=f"sparse-{name}") for name in OPTIMIZERS if name in SPARSE_TOO
]


def entries(operator: Any) -> Tensor:
    return operator @ torch.eye(operator.size, **DOUBLE)


@pytest.mark.parametrize("kind", TWINS)
def test_products_are_those_of_the_dense_hessian_of_the_real_and_dense_twin(kind):
    model, twin = map(seeded, TWINS[kind])
    problem, batch = problem_of(model), batches(model)[0]
    expected = dense_hessian(problem_of(twin), batch)
    torch.testing.assert_close(entries(HessianOperator(problem, [batch])), expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(entries(FiniteDifferenceOperator(problem, [batch])), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", TWINS)
def test_so_are_those_of_the_gauss_newton_matrix(kind):
    model, twin = map(seeded, TWINS[kind])
    batch = batches(model)[0]
    matrices = [entries(GGNOperator(problem_of(net), [batch])) for net in (model, twin)]
    torch.testing.assert_close(matrices[0], matrices[1], rtol=1e-9, atol=1e-11)


def limit_of(model: nn.Module, optimizer: Any, **options: Any) -> StableLR | str:
    """The limit, or why there is none; nothing is left changed."""
    before = fingerprint(model, optimizer)
    try:
        return stable_lr(model, optimizer, batches(model), nn.CrossEntropyLoss(), tol=1e-6, **options)
    except CurvatureError as error:
        return str(error)
    finally:
        assert_untouched(before, fingerprint(model, optimizer))


def trained(model: nn.Module, optimizer: Any) -> None:
    """A history, and gradients to lose."""
    for inputs, target in batches(model):
        nn.functional.cross_entropy(model(inputs), target).backward()
        optimizer.step()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")  # torch's own, in Adagrad
@pytest.mark.parametrize(("kind", "name"), EVERY)
@pytest.mark.parametrize("along", ["hessian", "update"])
def test_the_stable_lr_is_that_of_the_twin(kind, name, along):
    found = []
    for make in TWINS[kind]:
        model = seeded(make)
        optimizer = OPTIMIZERS[name](model.parameters())
        trained(model, optimizer)
        found.append(limit_of(model, optimizer, along=along))
    own, twin = found
    if isinstance(twin, str):
        assert own == twin
        return
    assert own.lr == pytest.approx(twin.lr, rel=1e-5)
    assert own.curvature_lr == pytest.approx(twin.curvature_lr, rel=1e-5)
    assert (own.noise_lr or 0) == pytest.approx(twin.noise_lr or 0, rel=1e-5)
    assert own.by_parameter == pytest.approx(twin.by_parameter, rel=1e-3, abs=1e-6)


def test_an_optimizer_without_history_is_run_in_for_complex_weights_too():
    found = []
    for make in TWINS["complex"]:
        model = seeded(make)
        found.append(limit_of(model, torch.optim.Adam(model.parameters())))
    assert found[0].lr == pytest.approx(found[1].lr, rel=1e-5)
    assert found[0].first_step_lr == pytest.approx(found[1].first_step_lr, rel=1e-3)


def test_bags_of_embeddings_are_measured_without_a_second_derivative():
    """torch has none for them, sparse or not."""
    found = []
    for sparse in (True, False):
        model = seeded(lambda: WordNet(sparse=sparse, bags=True))  # noqa: B023
        found.append(stable_lr(model, torch.optim.SGD(model.parameters(), lr=0.1), batches(model), nn.CrossEntropyLoss()))
    assert found[0].lr == pytest.approx(found[1].lr, rel=1e-3)
    assert {limit.method for limit in found} == {"finite_difference"}


def test_graphs_with_sparse_gradients_are_kept_within_a_budget():
    model = seeded(lambda: WordNet(sparse=True))
    few, many = (HessianOperator(problem_of(model), batches(model), graph_memory=memory) for memory in (1, 2**30))
    torch.testing.assert_close(entries(few), entries(many))
    assert (few.graphs.recomputed > 0, many.graphs.recomputed) == (True, 0)


def test_vectors_hold_complex_tensors_as_pairs():
    tensors = [torch.ones(1), torch.tensor([[1 + 2j, 3 - 4j]]), torch.tensor(5j)]
    flat = flatten(tensors)
    assert flat.tolist() == [1, 1, 2, 3, -4, 0, 5]
    for back, tensor in zip(unflatten(flat, tensors), tensors, strict=True):
        assert torch.equal(back, tensor)
        assert back.dtype is tensor.dtype


def test_vectors_hold_sparse_tensors_with_their_zeros():
    assert flatten([torch.tensor([[0.0, 2.0], [0.0, 0.0]]).to_sparse()]).tolist() == [0, 2, 0, 0]


def test_a_conjugated_view_is_read_as_it_looks():
    assert flatten([torch.tensor([1 + 2j]).conj()]).tolist() == [1, -2]


def test_a_complex_loss_is_refused():
    model = seeded(TWINS["complex"][0])
    before = fingerprint(model)
    with pytest.raises(BadType, match=r"the loss is complex.*abs\(\)"):
        stable_lr(
            model,
            torch.optim.SGD(model.parameters(), lr=0.1),
            batches(model),
            loss_fn=lambda net, batch: net(batch[0]).mean() + net.weight.sum(),
        )
    assert_untouched(before, fingerprint(model))


# Several inputs -------------------------------------------------------------------------------------------------------------------


class Joined(nn.Module):
    """Two inputs, or one with both."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4, **DOUBLE), nn.Tanh(), nn.Linear(4, 3, **DOUBLE))

    def forward(self, left: Tensor, right: Tensor | None = None) -> Tensor:
        return self.net(left if right is None else torch.cat([left, right], dim=1))


@pytest.mark.parametrize("operator", [HessianOperator, GGNOperator, FiniteDifferenceOperator])
def test_operators_take_several_inputs(operator):
    model = seeded(Joined)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(6, 3, generator=generator, **DOUBLE), torch.randint(3, (6,), generator=generator)
    matrices = [
        entries(operator(Problem(model, None, [batch], nn.CrossEntropyLoss()), [batch])) for batch in ((x, y), (x[:, :1], x[:, 1:], y))
    ]
    torch.testing.assert_close(matrices[0], matrices[1], rtol=1e-9, atol=1e-11)
