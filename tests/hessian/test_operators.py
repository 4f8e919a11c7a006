"""Products against dense Hessians from torch.func and against closed forms, all in float64."""

from __future__ import annotations

import warnings
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import Quadratic, assert_untouched, dense_hessian, fingerprint, loss_itself, symmetric
from scipy.sparse.linalg import eigsh
from torch import nn
from torch.nn import functional as F

from hessian import (
    CurvatureError,
    CurvatureOperator,
    FiniteDifferenceOperator,
    GGNOperator,
    HessianOperator,
    PreconditionedOperator,
    Problem,
)
from hessian.operators.base import DenseOperator

# Both sides are exact up to rounding; products of a few hundred terms lose three of sixteen digits.
EXACT = 1e-12
F64 = torch.float64


def matrix_of(op: CurvatureOperator) -> torch.Tensor:
    return op @ torch.eye(op.size, dtype=F64)


def assert_same_matrix(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).norm() <= EXACT * expected.norm()


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def labels(count: int, classes: int, seed: int = 1) -> torch.Tensor:
    return torch.randint(classes, (count,), generator=torch.Generator().manual_seed(seed))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(4, 12, dtype=F64)
        self.out = nn.Linear(4, 3, dtype=F64)

    def forward(self, tokens):
        query, key, value = (part.unflatten(-1, (2, 2)).transpose(1, 2) for part in self.qkv(tokens).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2).mean(1))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True, dtype=F64)
        self.out = nn.Linear(3, 3, dtype=F64)

    def forward(self, tokens):
        return self.out(self.lstm(tokens)[0][:, -1])


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(3, 3, bias=False, dtype=F64)
        self.decode = nn.Linear(3, 3, bias=False, dtype=F64)
        self.decode.weight = self.encode.weight

    def forward(self, inputs):
        return self.decode(torch.tanh(self.encode(inputs)))


class PartlyUnused(nn.Module):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.ones(2, 2, dtype=F64))
        self.layers = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3)).double()

    def forward(self, inputs):
        return self.layers(inputs)


def mlp():
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def cnn():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3)).double()


def frozen_mlp():
    model = mlp()
    model[0].bias.requires_grad_(False)
    model[2].weight.requires_grad_(False)
    return model


NETS = {
    "mlp": (mlp, (7, 4)),
    "cnn": (cnn, (5, 1, 6, 6)),
    "lstm": (Recurrent, (6, 5, 4)),
    "attention": (Attention, (6, 5, 4)),
    "tied weights": (Tied, (6, 3)),
    "frozen parameters": (frozen_mlp, (7, 4)),
    "unused parameters": (PartlyUnused, (7, 4)),
}
WRITING = {cnn, Recurrent}  # to buffers, or in place in their forward mode: not for torch.func


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("make", "shape"), NETS.values(), ids=NETS)
def test_products_are_those_of_the_dense_hessian(make, shape, training):
    torch.manual_seed(0)
    model = make().train(training)
    batch = (normal(*shape), labels(shape[0], 3))
    problem = Problem(model, None, [batch], nn.CrossEntropyLoss())
    before = fingerprint(model)
    found = matrix_of(HessianOperator(problem, [batch]))
    assert_untouched(before, fingerprint(model))  # running statistics included
    assert_same_matrix(found, dense_hessian(problem, batch, by_rows=make in WRITING))


def test_eval_mode_takes_the_running_statistics():
    torch.manual_seed(0)
    model = cnn()
    batch = (normal(5, 1, 6, 6), labels(5, 3))
    problem = Problem(model, None, [batch], nn.CrossEntropyLoss())
    training = matrix_of(HessianOperator(problem, [batch]))
    model.eval()
    evaluating = matrix_of(HessianOperator(problem, [batch]))
    assert (training - evaluating).norm() > 0.1 * evaluating.norm()


def test_only_what_the_optimizer_holds_is_a_coordinate():
    torch.manual_seed(0)
    model = mlp()
    batch = (normal(7, 4), labels(7, 3))
    problem = Problem(model, torch.optim.SGD(model[2].parameters(), lr=0.1), [batch], nn.CrossEntropyLoss())
    found = matrix_of(HessianOperator(problem, [batch]))
    assert found.shape == (18, 18)
    whole = dense_hessian(Problem(model, None, [batch], nn.CrossEntropyLoss()), batch)
    assert_same_matrix(found, whole[-18:, -18:])


def test_unused_parameters_have_zero_rows():
    torch.manual_seed(0)
    model = PartlyUnused()
    batch = (normal(7, 4), labels(7, 3))
    found = matrix_of(HessianOperator(Problem(model, None, [batch], nn.CrossEntropyLoss()), [batch]))
    assert not found[:4].any()
    assert found[4:, 4:].any()


def test_a_linear_loss_has_no_curvature():
    model = nn.Linear(3, 1, dtype=F64)
    batch = normal(5, 3)
    op = HessianOperator(Problem(model, None, [batch], loss_fn=lambda model, batch: model(batch).mean()), [batch])
    assert torch.equal(matrix_of(op), torch.zeros(4, 4, dtype=F64))


def test_batches_of_unequal_size_weigh_by_their_samples():
    torch.manual_seed(0)
    model = mlp()
    inputs, target = normal(12, 4), labels(12, 3)
    batches = [(inputs[:7], target[:7]), (inputs[7:9], target[7:9]), (inputs[9:], target[9:])]
    problem = Problem(model, None, batches, nn.CrossEntropyLoss())
    op = HessianOperator(problem, batches)
    assert_same_matrix(matrix_of(op), dense_hessian(problem, (inputs, target)))
    gradient = torch.autograd.grad(problem.loss((inputs, target)), model.parameters())
    hint = torch.cat([part.reshape(-1) for part in gradient])
    assert (op.start_hint() - hint).norm() <= EXACT * hint.norm()


def test_linear_regression_has_the_hessian_of_its_design():
    inputs, target = normal(9, 4), normal(9, 2, seed=1)
    model = nn.Linear(4, 2, bias=False, dtype=F64)
    problem = Problem(model, None, [(inputs, target)], nn.MSELoss())
    # The mean runs over 9 samples and 2 outputs; the outputs do not mix.
    expected = torch.kron(torch.eye(2, dtype=F64), 2 * inputs.T @ inputs / 18)
    assert_same_matrix(matrix_of(HessianOperator(problem, [(inputs, target)])), expected)


def test_softmax_regression_has_its_textbook_hessian():
    inputs, target = normal(9, 4), labels(9, 3)
    model = nn.Linear(4, 3, bias=False, dtype=F64)
    with torch.no_grad():
        shares = model(inputs).softmax(1)
    # mean over samples of (diag(p) - p p') kron (x x')
    expected = sum(torch.kron(torch.diag(p) - torch.outer(p, p), torch.outer(x, x)) for p, x in zip(shares, inputs, strict=True)) / 9
    problem = Problem(model, None, [(inputs, target)], nn.CrossEntropyLoss())
    assert_same_matrix(matrix_of(HessianOperator(problem, [(inputs, target)])), expected)


def test_dropout_keeps_its_masks_for_every_product():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Tanh(), nn.Linear(16, 3)).double()
    batches = [(normal(6, 4, seed=seed), labels(6, 3)) for seed in range(2)]
    op = HessianOperator(Problem(model, None, batches, nn.CrossEntropyLoss()), batches)
    matrix = matrix_of(op)
    assert torch.equal(matrix, matrix_of(op))
    assert_same_matrix(matrix, matrix.T)
    vector = normal(op.size, seed=5)
    assert (op @ vector - matrix @ vector).norm() <= EXACT * matrix.norm() * vector.norm()
    assert (
        matrix - matrix_of(HessianOperator(Problem(model, None, batches, nn.CrossEntropyLoss()), batches))
    ).norm() > 0.01 * matrix.norm()


class RunningScale(nn.Module):
    """Updates a buffer in place and then uses it: the graph refers to the new value."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, dtype=F64))
        self.register_buffer("scale", torch.ones(1, dtype=F64))

    def forward(self, inputs):
        self.scale.mul_(3.0)
        return (inputs * self.weight * self.scale).square().mean()


def test_a_buffer_that_the_forward_pass_updates_and_uses_keeps_its_new_value_in_the_graph():
    model = RunningScale()
    batches = [torch.ones(2, dtype=F64), torch.ones(2, dtype=F64)]
    op = HessianOperator(Problem(model, None, batches, loss_fn=loss_itself), batches)
    # Every batch starts from the same buffer: (3 w)^2 has the second derivative 18.
    assert float(op @ torch.ones(1, dtype=F64)) == 18.0
    assert float(model.scale) == 1.0


def test_buffers_come_back_when_the_forward_pass_fails():
    class Breaks(RunningScale):
        def forward(self, inputs):
            super().forward(inputs)
            raise KeyError("inside the model")

    model = Breaks()
    buffer = model.scale
    with pytest.raises(KeyError, match="inside the model"):
        HessianOperator(Problem(model, None, [1], loss_fn=loss_itself), [torch.ones(1)])
    assert model.scale is buffer
    assert float(buffer) == 1.0


def test_a_compiled_module_is_measured_through_its_plain_code():
    torch.manual_seed(0)
    model = mlp()
    batch = (normal(7, 4), labels(7, 3))
    expected = matrix_of(HessianOperator(Problem(model, None, [batch], nn.CrossEntropyLoss()), [batch]))
    compiled = torch.compile(model, backend="aot_eager")  # inductor takes 10 s; neither has a second derivative
    compiled(batch[0])
    problem = Problem(compiled, None, [batch], nn.CrossEntropyLoss())
    assert_same_matrix(matrix_of(HessianOperator(problem, [batch])), expected)


# Refusals -----------------------------------------------------------------------------------------------------------------------


class OnceOnly(torch.autograd.Function):
    @staticmethod
    def forward(ctx, inputs):
        ctx.save_for_backward(inputs)
        return inputs.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, upstream):
        (inputs,) = ctx.saved_tensors
        return 2 * inputs * upstream


ONCE_ONLY = {  # torch itself raises for none of these: it takes the missing derivative for zero
    "next to the loss": lambda model, batch: OnceOnly.apply(model(batch)).mean(),
    "inside": lambda model, batch: OnceOnly.apply(model(batch)).square().mean(),
    "beside a path that has one": lambda model, batch: (OnceOnly.apply(model(batch)) + model(batch).pow(4)).square().mean(),
}


@pytest.mark.parametrize("loss_fn", ONCE_ONLY.values(), ids=ONCE_ONLY)
def test_an_operation_without_second_derivative_is_one_sentence(loss_fn):
    model = nn.Linear(3, 1, dtype=F64)
    batch = normal(5, 3)
    problem = Problem(model, None, [batch], loss_fn=loss_fn)
    with pytest.raises(CurvatureError, match="an operation without a second derivative; pass method='finite_difference', or") as caught:
        HessianOperator(problem, [batch]) @ torch.ones(4, dtype=F64)
    assert "\n" not in str(caught.value)


def test_an_operation_whose_derivative_torch_does_not_implement_is_one_sentence():
    model = nn.Linear(3, 6, dtype=torch.float32)
    inputs = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))

    def loss(model, batch):  # the backward pass of the CTC loss has no derivative
        lengths = torch.full((1,), 5), torch.full((1,), 2)
        return F.ctc_loss(model(batch).log_softmax(-1)[:, None], torch.tensor([[1, 2]]), *lengths)

    with pytest.raises(CurvatureError, match="ctc_loss"):
        HessianOperator(Problem(model, None, [inputs], loss_fn=loss), [inputs]) @ torch.ones(24)


def test_another_error_of_the_model_passes_unchanged():
    model = nn.Linear(3, 1)
    problem = Problem(model, None, [1], nn.MSELoss())
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        HessianOperator(problem, [(torch.ones(2, 5), torch.ones(2, 1))])


@pytest.mark.parametrize("shape", [(3,), (5,), (3, 4), (4, 4, 4), ()])
def test_a_tensor_of_the_wrong_shape_is_refused_with_both_shapes(shape):
    op = DenseOperator(torch.eye(4))
    with pytest.raises(ValueError, match=rf"shape \(4, 4\) with a tensor of shape {str(shape).replace('(', '.').replace(')', '.')}"):
        op @ torch.ones(shape)
    assert op.products == 0


# The interface ------------------------------------------------------------------------------------------------------------------


def test_a_matrix_is_multiplied_column_by_column_and_counted():
    matrix = symmetric([1.0, 2.0, 3.0])
    op = DenseOperator(matrix)
    block = normal(3, 2)
    assert torch.allclose(op @ block, matrix @ block, rtol=EXACT)
    assert op.shape == (3, 3)
    assert op.products == 2


def test_vectors_of_another_dtype_are_converted():
    op = DenseOperator(torch.eye(3, dtype=torch.float32))
    assert (op @ torch.ones(3, dtype=F64)).dtype == torch.float32


def test_scipys_eigsh_agrees_with_the_dense_spectrum():
    torch.manual_seed(0)
    model = mlp()
    batch = (normal(7, 4), labels(7, 3))
    problem = Problem(model, None, [batch], nn.CrossEntropyLoss())
    spectrum = np.linalg.eigvalsh(dense_hessian(problem, batch).numpy())
    linear = HessianOperator(problem, [batch]).to_scipy()
    assert linear.shape == (43, 43)
    rng = np.random.default_rng(0)
    found = eigsh(linear, k=3, which="LA", v0=rng.normal(size=43), return_eigenvectors=False)
    assert np.sort(found) == pytest.approx(spectrum[-3:], rel=1e-9)
    block = rng.normal(size=(43, 2))
    assert linear @ block == pytest.approx(dense_hessian(problem, batch).numpy() @ block, rel=1e-9, abs=1e-12)


def test_parameters_of_different_dtypes_work_together():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2, dtype=torch.float32), nn.Linear(2, 1, dtype=F64))
    batch = normal(5, 3)

    def loss(model, batch):
        return model[1](torch.tanh(model[0](batch.float())).double()).square().mean()

    matrix = HessianOperator(Problem(model, None, [batch], loss_fn=loss), [batch]) @ torch.eye(11)
    # float32 forward and backward passes
    assert (matrix - matrix.T).norm() <= 1e-5 * matrix.norm()


seeds = st.integers(0, 2**31 - 1)


@pytest.fixture(scope="module")
def net_op():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.3), nn.Tanh(), nn.Flatten(), nn.Linear(32, 3)).double()
    batches = [(normal(size, 1, 6, 6, seed=size), labels(size, 3)) for size in (4, 3)]
    return HessianOperator(Problem(model, None, batches, nn.CrossEntropyLoss()), batches)


@settings(max_examples=30)
@given(left=seeds, right=seeds)
def test_products_are_symmetric(net_op, left, right):
    u, v = normal(net_op.size, seed=left), normal(net_op.size, seed=right)
    scale = float(u.norm() * (net_op @ v).norm())
    assert float(u @ (net_op @ v) - v @ (net_op @ u)) == pytest.approx(0, abs=EXACT * scale)


@settings(max_examples=30)
@given(left=seeds, right=seeds, a=st.floats(-1e3, 1e3), b=st.floats(-1e3, 1e3))
def test_products_are_linear(net_op, left, right, a, b):
    u, v = normal(net_op.size, seed=left), normal(net_op.size, seed=right)
    hu, hv = net_op @ u, net_op @ v
    rounding = EXACT * (abs(a) * hu.norm() + abs(b) * hv.norm() + 1)
    assert (net_op @ (a * u + b * v) - (a * hu + b * hv)).norm() <= rounding


# Preconditioned -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [None, normal(5, seed=2)], ids=["", "inner"])
@pytest.mark.parametrize("outer", [None, normal(5, seed=3)], ids=["", "outer"])
def test_preconditioned_products_are_those_of_the_dense_matrix(inner, outer):
    matrix = symmetric([-3.0, 0.5, 1.0, 2.0, 4.0])
    scale = normal(5, seed=1).abs()
    nothing = torch.zeros(5, dtype=F64)
    scaling = torch.diag(scale)
    inside = torch.diag(nothing if inner is None else inner)
    outside = torch.diag(nothing if outer is None else outer)
    op = PreconditionedOperator(DenseOperator(matrix), scale, inner, outer)
    assert_same_matrix(matrix_of(op), scaling @ (matrix + inside) @ scaling + outside)


def test_preconditioning_hands_on_the_scaled_start():
    model = Quadratic(symmetric([1.0, 2.0, 4.0]))
    op = HessianOperator(Problem(model, None, [0], loss_fn=loss_itself), [torch.zeros(1)])
    scale = torch.tensor([1.0, 2.0, 0.0], dtype=F64)
    assert torch.equal(PreconditionedOperator(op, scale).start_hint(), scale * op.start_hint())
    assert PreconditionedOperator(DenseOperator(torch.eye(3)), torch.ones(3)).start_hint() is None


class Identity(CurvatureOperator):
    """Returns the very vector it was given."""

    def _product(self, vector):
        return vector


def test_an_operator_that_returns_its_argument_is_not_written_to():
    vector = torch.ones(3)
    PreconditionedOperator(Identity(3, vector), torch.full((3,), 2.0), torch.ones(3), torch.ones(3)) @ vector
    assert torch.equal(vector, torch.ones(3))


# Gauss-Newton -------------------------------------------------------------------------------------------------------------------


def dense_ggn(problem, batch, *, by_rows=False):
    """``J' H_out J`` by torch.func, over the problem's parameters; ``by_rows`` as in ``dense_hessian``."""
    model, criterion, (inputs, target) = problem.model, problem.loss_fn.criterion, batch
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    sizes = [parameter.numel() for parameter in problem.parameters.values()]

    def outputs(flat):
        parts = zip(problem.parameters.items(), flat.split(sizes), strict=True)
        weights = {name: part.view_as(parameter) for (name, parameter), part in parts}
        return torch.func.functional_call(model, {**buffers, **weights}, (inputs,))

    flat = torch.cat([parameter.detach().reshape(-1) for parameter in problem.parameters.values()])
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        jacobian = torch.autograd.functional.jacobian(outputs, flat) if by_rows else torch.func.jacrev(outputs)(flat)
        found = outputs(flat)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.script", category=DeprecationWarning)  # torch's own, in its forward mode
        inner = torch.func.hessian(lambda entries: criterion(entries.view_as(found), target))(found.reshape(-1))
    jacobian = jacobian.reshape(found.numel(), -1)
    return jacobian.T @ inner @ jacobian


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(("make", "shape"), NETS.values(), ids=NETS)
def test_ggn_products_are_those_of_the_dense_matrix(make, shape, training):
    torch.manual_seed(0)
    model = make().train(training)
    batch = (normal(*shape), labels(shape[0], 3))
    problem = Problem(model, None, [batch], nn.CrossEntropyLoss())
    before = fingerprint(model)
    found = matrix_of(GGNOperator(problem, [batch]))
    assert_untouched(before, fingerprint(model))
    assert_same_matrix(found, dense_ggn(problem, batch, by_rows=make in WRITING))
    assert torch.linalg.eigvalsh(found)[0] >= -EXACT * found.norm()  # positive semi-definite


def shares(*shape):
    return normal(*shape, seed=3).softmax(1)


def some_ignored(count=7, ignored=-100):
    target = labels(count, 3)
    target[[1, 4]] = ignored
    return target


LOSSES = {  # criterion, target for seven samples of three outputs, whether the Hessian in the outputs is closed-form
    "cross-entropy": (nn.CrossEntropyLoss(), labels(7, 3), True),
    "cross-entropy, sum": (nn.CrossEntropyLoss(reduction="sum"), labels(7, 3), True),
    "cross-entropy, ignored": (nn.CrossEntropyLoss(), some_ignored(), True),
    "cross-entropy, ignored, sum": (nn.CrossEntropyLoss(reduction="sum", ignore_index=2), labels(7, 3), True),
    "cross-entropy, label smoothing": (nn.CrossEntropyLoss(label_smoothing=0.3), some_ignored(), True),
    "cross-entropy, class weights": (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0], dtype=F64)), labels(7, 3), False),
    "cross-entropy, shares": (nn.CrossEntropyLoss(), shares(7, 3), False),
    "cross-entropy, function": (F.cross_entropy, some_ignored(), True),
    "squared error": (nn.MSELoss(), normal(7, 3, seed=2), True),
    "squared error, sum": (nn.MSELoss(reduction="sum"), normal(7, 3, seed=2), True),
    "squared error, function": (F.mse_loss, normal(7, 3, seed=2), True),
    "logistic": (nn.BCEWithLogitsLoss(), shares(7, 3), False),
    "Huber": (nn.HuberLoss(delta=0.5), normal(7, 3, seed=2), False),
    "a sum of two": (lambda out, y: F.cross_entropy(out, y) + 0.1 * out.pow(4).mean(), labels(7, 3), False),
}


@pytest.mark.parametrize(("criterion", "target", "closed"), LOSSES.values(), ids=LOSSES)
def test_ggn_has_the_hessian_of_the_loss_in_the_outputs(criterion, target, closed, monkeypatch):
    torch.manual_seed(0)
    batch = (normal(7, 4), target)
    problem = Problem(mlp(), None, [batch], criterion)
    expected = dense_ggn(problem, batch)
    if closed:
        monkeypatch.setattr("hessian.operators.ggn.autograd_hessian", None)
    found = matrix_of(GGNOperator(problem, [batch]))
    assert expected.norm() > 0
    assert_same_matrix(found, expected)


class PerPosition(nn.Module):
    """Scores of three classes at five positions, in the order (batch, classes, positions) that cross-entropy takes."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()

    def forward(self, tokens):
        return self.layers(tokens).transpose(1, 2)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_ggn_of_a_target_at_every_position(reduction):
    torch.manual_seed(0)
    target = some_ignored(30).view(6, 5)
    batch = (normal(6, 5, 4), target)
    problem = Problem(PerPosition(), None, [batch], nn.CrossEntropyLoss(reduction=reduction))
    assert_same_matrix(matrix_of(GGNOperator(problem, [batch])), dense_ggn(problem, batch))


def test_ggn_of_a_sample_without_a_batch_dimension():
    torch.manual_seed(0)
    batch = (normal(4), torch.tensor(2))
    problem = Problem(mlp(), None, [batch], nn.CrossEntropyLoss())
    assert_same_matrix(matrix_of(GGNOperator(problem, [batch])), dense_ggn(problem, batch))


LINEAR = {"cross-entropy": (nn.CrossEntropyLoss(), labels(9, 3)), "squared error": (nn.MSELoss(), normal(9, 3, seed=1))}


@pytest.mark.parametrize(("criterion", "target"), LINEAR.values(), ids=LINEAR)
def test_ggn_of_a_linear_model_is_its_hessian(criterion, target):
    torch.manual_seed(0)
    batch = (normal(9, 4), target)
    problem = Problem(nn.Linear(4, 3, dtype=F64), None, [batch], criterion)
    assert_same_matrix(matrix_of(GGNOperator(problem, [batch])), matrix_of(HessianOperator(problem, [batch])))


def test_ggn_of_linear_and_of_softmax_regression_in_closed_form():
    torch.manual_seed(0)
    inputs = normal(9, 4)
    model = nn.Linear(4, 2, bias=False, dtype=F64)
    batch = (inputs, normal(9, 2, seed=1))
    found = matrix_of(GGNOperator(Problem(model, None, [batch], nn.MSELoss()), [batch]))
    assert_same_matrix(found, torch.kron(torch.eye(2, dtype=F64), 2 * inputs.T @ inputs / 18))
    batch = (inputs, labels(9, 2))
    p = model(inputs).detach().softmax(1)
    expected = sum(torch.kron(torch.diag(p) - torch.outer(p, p), torch.outer(x, x)) for p, x in zip(p, inputs, strict=True)) / 9
    assert_same_matrix(matrix_of(GGNOperator(Problem(model, None, [batch], nn.CrossEntropyLoss()), [batch])), expected)


def test_ggn_of_a_loss_that_is_linear_in_the_outputs_is_zero():
    batch = (normal(7, 4), normal(7, 3))
    op = GGNOperator(Problem(mlp(), None, [batch], lambda out, y: (out * y).mean()), [batch])
    assert not matrix_of(op).any()


def test_ggn_needs_the_split_into_model_and_loss():
    batch = (normal(7, 4), labels(7, 3))
    with pytest.raises(ValueError, match=r"GGNOperator needs criterion.*pass criterion, not loss_fn"):
        GGNOperator(Problem(mlp(), None, [batch], loss_fn=lambda model, batch: model(batch[0]).mean()), [batch])


@pytest.mark.parametrize("place", ["model", "criterion"])
def test_ggn_refuses_an_operation_without_second_derivative(place):
    batch = (normal(7, 4), normal(7, 3))
    if place == "model":
        problem = Problem(OnceOnlyNet(), None, [batch], nn.MSELoss())
    else:
        problem = Problem(mlp(), None, [batch], lambda out, y: OnceOnly.apply(out - y).mean())
    with pytest.raises(CurvatureError, match="once_differentiable"):
        GGNOperator(problem, [batch]) @ torch.ones(43, dtype=F64)


# Subsets of the parameters ------------------------------------------------------------------------------------------------------

OPERATORS = {"Hessian": HessianOperator, "GGN": GGNOperator, "differences": FiniteDifferenceOperator}


@pytest.mark.parametrize("names", [["0.weight"], ["2.bias", "0.weight"], ["0.bias", "2.weight", "2.bias"]], ids=",".join)
@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
def test_a_subset_of_the_parameters_gives_the_block(make, names):
    torch.manual_seed(0)
    batch = (normal(7, 4), labels(7, 3))
    problem = Problem(mlp(), None, [batch], nn.CrossEntropyLoss())
    dense = dense_ggn(problem, batch) if make is GGNOperator else dense_hessian(problem, batch)
    places = dict(zip(problem.parameters, torch.arange(43).split([p.numel() for p in problem.parameters.values()]), strict=True))
    chosen = torch.cat([places[name] for name in names])
    op = make(problem, [batch], parameters=names)
    block = dense[chosen][:, chosen]
    assert op.names == names
    error = (matrix_of(op) - block).norm()
    assert error <= (1e-8 if make is FiniteDifferenceOperator else EXACT) * block.norm()  # step^2 is 4e-11 (1 + |w|)^2


@pytest.mark.parametrize("names", [["0.weight", "typo"], [], ["0.bias"]], ids=["unknown", "none", "frozen"])
@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
def test_names_that_are_not_trained_are_refused(make, names):
    batch = (normal(7, 4), labels(7, 3))
    with pytest.raises(ValueError, match=r"parameters names .* which is not trained here; choose from 0.weight, 2.bias"):
        make(Problem(frozen_mlp(), None, [batch], nn.CrossEntropyLoss()), [batch], parameters=names)


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
def test_no_batch_is_refused(make):
    batch = (normal(7, 4), labels(7, 3))
    with pytest.raises(ValueError, match="batches is empty; pass at least one batch"):
        make(Problem(mlp(), None, [batch], nn.CrossEntropyLoss()), [])


# Many batches -------------------------------------------------------------------------------------------------------------------


def dropout_net():
    layers = nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Dropout(0.4), nn.Tanh(), nn.Flatten(), nn.Dropout(0.4), nn.Linear(32, 3)
    return nn.Sequential(*layers).double()


@pytest.mark.parametrize("make", [HessianOperator, GGNOperator])
def test_graphs_that_are_made_again_are_the_graphs_that_are_kept(make):
    torch.manual_seed(0)
    model = dropout_net()
    batches = [(normal(size, 1, 6, 6, seed=size), labels(size, 3)) for size in (4, 2, 5, 3)]
    problem = Problem(model, None, batches, nn.CrossEntropyLoss())
    operators = []
    for memory in (2**30, 0):
        torch.manual_seed(1)
        operators.append(make(problem, batches, graph_memory=memory))
    kept, again = operators
    before = fingerprint(model)
    for product in range(1, 4):
        vector = normal(kept.size, seed=product)
        assert torch.equal(kept @ vector, again @ vector)  # the same masks, summed in the same order
        assert kept.graphs.recomputed == 0
        assert again.graphs.recomputed == 3 * product  # all but the first
    assert_untouched(before, fingerprint(model))  # generators included
    torch.manual_seed(2)
    assert (kept @ vector - make(problem, batches) @ vector).norm() > 0.01 * (kept @ vector).norm()  # the masks do matter


@pytest.mark.parametrize("make", [HessianOperator, GGNOperator])
def test_the_budget_decides_how_many_graphs_are_kept(make):
    torch.manual_seed(0)
    batches = [(normal(50, 4, seed=seed), labels(50, 3)) for seed in range(6)]
    problem = Problem(mlp(), None, batches, nn.CrossEntropyLoss())
    counts = []
    for memory in (0, 2**14, 2**15, 2**30):  # a graph saves at least 50 x (4 + 5 + 3) x 8 = 4,800 bytes
        kept = sum(graph is not None for graph in make(problem, batches, graph_memory=memory).graphs.kept)
        assert (kept - 1) * 4800 <= memory
        counts.append(kept)
    assert counts == sorted(counts)
    assert counts[0] == 1
    assert counts[2] > 1
    assert counts[-1] == 6


class Token:
    """Lives as long as the graph that holds it."""


class Marked(torch.autograd.Function):
    alive: weakref.WeakSet
    most: int

    @staticmethod
    def forward(ctx, inputs):
        ctx.token = Token()
        Marked.alive.add(ctx.token)
        Marked.most = max(Marked.most, len(Marked.alive))
        ctx.save_for_backward(inputs)
        return inputs.square()

    @staticmethod
    def backward(ctx, upstream):
        return 2 * ctx.saved_tensors[0] * upstream


@pytest.mark.parametrize("make", [HessianOperator, GGNOperator])
@pytest.mark.parametrize("count", [2, 7])
def test_only_one_graph_is_alive_beside_those_that_are_kept(make, count):
    class Square(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3, dtype=F64)

        def forward(self, inputs):
            return Marked.apply(self.layer(inputs))

    Marked.alive, Marked.most = weakref.WeakSet(), 0
    batches = [(normal(5, 4, seed=seed), normal(5, 3)) for seed in range(count)]
    op = make(Problem(Square(), None, batches, nn.MSELoss()), batches, graph_memory=0)
    for _ in range(2):
        op @ torch.ones(15, dtype=F64)
    op.start_hint()
    assert Marked.most == 2  # the first batch's and the one at work; garbage collection had no part in it
    assert len(Marked.alive) == 1
    del op
    assert len(Marked.alive) == 0


# Precision ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", OPERATORS.values(), ids=OPERATORS)
def test_autocast_does_not_reach_the_products(make):
    torch.manual_seed(0)
    model = mlp().float()
    batch = (normal(7, 4).float(), labels(7, 3))
    problem = Problem(model, None, [batch], nn.CrossEntropyLoss())
    vector = normal(43).float()
    expected = make(problem, [batch]) @ vector
    with torch.autocast("cpu", torch.bfloat16):
        assert model(batch[0]).dtype == torch.bfloat16  # autocast does work here
        op = make(problem, [batch])
        product = op @ vector
    assert product.dtype == torch.float32
    assert torch.equal(product, expected)


# Finite differences -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "accuracy"), [(F64, 1e-8), (torch.float32, 3e-3)], ids=["float64", "float32"])
@pytest.mark.parametrize("make", [mlp, cnn, Recurrent])
def test_finite_differences_are_as_good_as_they_say(make, dtype, accuracy):
    """The step balances ``r^2`` against ``eps / r``: some 4e-11 and 2e-5 for ``r = 1``, times derivatives of higher order."""
    shape = {mlp: (7, 4), cnn: (5, 1, 6, 6), Recurrent: (6, 5, 4)}[make]
    torch.manual_seed(0)
    model = make()
    inputs, target = normal(*shape), labels(shape[0], 3)
    exact = HessianOperator(Problem(model, None, [1], nn.CrossEntropyLoss()), [(inputs, target)])
    vectors = [normal(exact.size, seed=seed) for seed in range(5)]
    products = [exact @ vector for vector in vectors]
    batch = (inputs.to(dtype), target)
    model.to(dtype)
    op = FiniteDifferenceOperator(Problem(model, None, [1], nn.CrossEntropyLoss()), [batch])
    for vector, product in zip(vectors, products, strict=True):
        error = float((op @ vector - product).norm() / product.norm())
        # The estimate knows the truncation; where rounding is the larger part, it sees a third of it (and of luck).
        assert error <= 6 * op.relative_error(vector.to(dtype)) + 1e-12
        assert error <= accuracy


def test_finite_differences_put_everything_back():
    torch.manual_seed(0)
    model = dropout_net()
    batches = [(normal(size, 1, 6, 6, seed=size), labels(size, 3)) for size in (4, 2)]
    op = FiniteDifferenceOperator(Problem(model, None, batches, nn.CrossEntropyLoss()), batches)
    before = fingerprint(model)
    vector = normal(op.size)
    first = op @ vector
    op.start_hint()
    op.relative_error(vector)
    assert torch.equal(op @ vector, first)  # the same masks
    assert_untouched(before, fingerprint(model))


def test_finite_differences_see_the_masks_of_the_exact_products():
    torch.manual_seed(0)
    batches = [(normal(size, 1, 6, 6, seed=size), labels(size, 3)) for size in (4, 2)]
    problem = Problem(dropout_net(), None, batches, nn.CrossEntropyLoss())
    found = []
    for make in (HessianOperator, FiniteDifferenceOperator):
        torch.manual_seed(1)
        op = make(problem, batches)
        found.append(op @ normal(op.size, seed=5))
    assert (found[0] - found[1]).norm() <= 1e-7 * found[0].norm()


@pytest.mark.parametrize("failure", [KeyError, KeyboardInterrupt])
def test_weights_come_back_when_a_gradient_of_the_differences_fails(failure):
    model = mlp()
    calls = []

    def criterion(outputs, target):
        calls.append(outputs)
        if len(calls) == 2:
            raise failure("now")
        return F.cross_entropy(outputs, target)

    batch = (normal(7, 4), labels(7, 3))
    op = FiniteDifferenceOperator(Problem(model, None, [batch], criterion), [batch])
    before = fingerprint(model)
    with pytest.raises(failure, match="now"):
        op @ normal(43)
    assert_untouched(before, fingerprint(model))


class OnceOnlyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = mlp()

    def forward(self, inputs):
        return self.layers[2](OnceOnly.apply(self.layers[0](inputs)))


def test_finite_differences_need_no_second_derivative():
    torch.manual_seed(0)
    model = OnceOnlyNet()
    batch = (normal(7, 4), labels(7, 3))
    problem = Problem(model, None, [batch], nn.CrossEntropyLoss())
    with pytest.raises(CurvatureError, match="once_differentiable"):
        HessianOperator(problem, [batch])
    found = matrix_of(FiniteDifferenceOperator(problem, [batch]))
    plain = Problem(
        model.layers, None, [batch], loss_fn=lambda layers, batch: F.cross_entropy(layers[2](layers[0](batch[0]).square()), batch[1])
    )
    expected = matrix_of(HessianOperator(plain, [batch]))
    assert (found - expected).norm() <= 1e-7 * expected.norm()


def test_finite_differences_along_nothing_are_nothing():
    batch = (normal(7, 4), labels(7, 3))
    op = FiniteDifferenceOperator(Problem(mlp(), None, [batch], nn.CrossEntropyLoss()), [batch])
    assert not (op @ torch.zeros(43, dtype=F64)).any()


# Properties ---------------------------------------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(seed=seeds, shift=st.floats(-100, 100))
def test_weight_decay_shifts_every_product(net_op, seed, shift):
    """The loss ``L + shift |w|^2 / 2`` has the Hessian ``H + shift``."""
    problem = net_op.problem

    def decayed(model, batch):
        return problem.loss_fn(model, batch) + shift / 2 * sum(parameter.square().sum() for parameter in model.parameters())

    torch.manual_seed(3)
    plain = HessianOperator(problem, net_op.graphs.batches)
    torch.manual_seed(3)
    moved = HessianOperator(Problem(problem.model, None, [0], loss_fn=decayed), net_op.graphs.batches)
    vector = normal(net_op.size, seed=seed)
    expected = plain @ vector + shift * vector
    assert (moved @ vector - expected).norm() <= EXACT * (1 + abs(shift)) * (1 + vector.norm())


@settings(max_examples=20)
@given(seed=seeds)
def test_ggn_never_curves_down(net_op, seed):
    torch.manual_seed(3)
    op = GGNOperator(net_op.problem, net_op.graphs.batches)
    vector = normal(op.size, seed=seed)
    assert float(vector @ (op @ vector)) >= -EXACT * float(vector @ vector)
