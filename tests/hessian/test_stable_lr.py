"""``stable_lr`` from its arguments to its result, on quadratics of known curvature and small nets."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from oracles import Quadratic, assert_untouched, dense_hessian, fingerprint, loss_itself, symmetric
from torch import nn
from torch.optim import SGD, Adam, AdamW, RMSprop
from torch.utils.data import DataLoader, TensorDataset

from hessian import CurvatureDoubt, CurvatureError, EigenResult, Problem, StableLR, stable_lr
from hessian.curvature_settings import CurvatureSettings
from hessian.result_base import Result
from hessian.stable import measure_limit

SPECTRUM = [-20.0, 1.0, 2.0, 3.0, 5.0, 8.0, 13.0]  # the most positive decides, not the largest


def quadratic_limit(make=SGD, **settings):
    model = Quadratic(symmetric(SPECTRUM))
    return stable_lr(model, make(model.parameters(), lr=0.1), [torch.zeros(1)], loss_fn=loss_itself, **settings)


def net_and_loader(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    data = TensorDataset(torch.randn(40, 6), torch.randint(3, (40,)))
    return model, DataLoader(data, batch_size=8, shuffle=True)


def train(model, optimizer, loader, steps):
    for step, (inputs, target) in enumerate(loader):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), target).backward()
        optimizer.step()
        if step + 1 == steps:
            return


# The number ---------------------------------------------------------------------------------------------------------------------


def test_the_limit_of_a_quadratic_is_two_over_its_sharpness():
    found = quadratic_limit(tol=1e-6)
    assert found.lr == pytest.approx(2 / 13, rel=1e-6)  # tol
    assert found.sharpness == pytest.approx(13, rel=1e-6)
    assert found.converged
    assert found.formula == "2 / sharpness"
    assert not found.preconditioned


def test_the_residual_bounds_the_error_of_an_early_stop():
    found = quadratic_limit(max_hvps=4)
    assert found.hvps == 4
    assert not found.converged
    assert min(abs(found.sharpness - value) for value in SPECTRUM) <= found.residual
    assert found.sharpness < 13
    assert found.lr > 2 / 13
    assert CurvatureDoubt.NOT_CONVERGED in found.doubts
    assert "The sharpness did not converge, so the limit is too high" in " ".join(str(found).split())


def test_adamws_decay_stands_beside_the_sharpness():
    model = Quadratic(symmetric(SPECTRUM))
    optimizer = AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    found = stable_lr(model, optimizer, [0], loss_fn=loss_itself, tol=1e-9)
    plain = stable_lr(model, Adam(model.parameters(), lr=0.1), [0], loss_fn=loss_itself, tol=1e-9)
    assert found.sharpness == pytest.approx(plain.sharpness, rel=1e-9)
    assert found.lr == pytest.approx(38 / (plain.sharpness + 19 * 0.5), rel=1e-9)
    assert found.formula == "38 / (sharpness + 9.5)"
    assert found.preconditioned


def test_the_base_lr_counts_where_a_scheduler_has_changed_it():
    model = Quadratic(symmetric([1.0, 2.0, 3.0, 8.0]))
    optimizer = SGD([{"params": [model.first], "lr": 0.2}, {"params": [model.second], "lr": 0.1}], lr=0.1)
    expected = stable_lr(model, optimizer, [0], loss_fn=loss_itself)
    torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda step: step / 10, lambda step: 1.0])
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert stable_lr(model, optimizer, [0], loss_fn=loss_itself) == expected


def test_a_group_at_half_the_lr_counts_half():
    model = Quadratic(torch.diag(torch.tensor([3.0, 2.0, 8.0, 1.0], dtype=torch.float64)))
    optimizer = SGD([{"params": [model.first]}, {"params": [model.second], "lr": 0.05}], lr=0.1)
    found = stable_lr(model, optimizer, [0], loss_fn=loss_itself, tol=1e-9)
    assert found.sharpness == pytest.approx(4.0, rel=1e-9)  # 8 at half the LR, against 3
    assert found.lr == pytest.approx(0.5, rel=1e-9)
    assert found.optimizer == "SGD in 2 groups"


def test_a_tensor_lr_is_understood():
    model = Quadratic(symmetric(SPECTRUM))
    rate = torch.tensor(0.1)
    optimizer = Adam(model.parameters(), lr=rate)
    number = stable_lr(model, Adam(model.parameters(), lr=0.1), [0], loss_fn=loss_itself)
    assert stable_lr(model, optimizer, [0], loss_fn=loss_itself) == number
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.1)


def test_a_parameter_that_the_loss_never_uses_does_not_set_adams_limit():
    class WithSpare(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = Quadratic(symmetric(SPECTRUM))
            self.spare = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, batch):
            return self.used(batch)

    model = WithSpare()
    for optimizer in (Adam, RMSprop, AdamW):
        whole = stable_lr(model, optimizer(model.parameters(), lr=0.1, weight_decay=0.5), [0], loss_fn=loss_itself, tol=1e-9)
        used = stable_lr(model.used, optimizer(model.used.parameters(), lr=0.1, weight_decay=0.5), [0], loss_fn=loss_itself, tol=1e-9)
        assert whole.lr == pytest.approx(used.lr, rel=1e-9)


def test_a_weight_that_has_had_no_gradient_does_not_set_adams_limit():
    model = Quadratic(torch.diag(torch.tensor([3.0, 2.0, 8.0], dtype=torch.float64)))
    with torch.no_grad():
        model.first.copy_(torch.tensor([[0.0, -2.0]]))  # at the bottom of its valley: v = 0, and 3 / eps would be 3e8
        model.second.fill_(0.5)
    found = stable_lr(model, Adam(model.parameters(), lr=0.1), [0], loss_fn=loss_itself, tol=1e-9)
    assert found.sharpness == pytest.approx(8 / 4, rel=1e-6)  # eps beside |g| = 8 * 0.5


def test_one_batch_and_its_copies_give_the_same():
    model, loader = net_and_loader()
    model.eval()
    batch = next(iter(loader))
    optimizer = SGD(model.parameters(), lr=0.1)
    one = stable_lr(model, optimizer, [batch], nn.CrossEntropyLoss())
    three = stable_lr(model, optimizer, [batch] * 3, nn.CrossEntropyLoss())
    assert three.sharpness == pytest.approx(one.sharpness, rel=1e-5)  # float32
    assert (one.num_batches, three.num_batches, one.batch_size) == (1, 3, 8)


# The same again, and nothing changed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [SGD, Adam, AdamW, RMSprop])
def test_the_same_call_gives_the_same_answer_and_changes_nothing(make):
    model, loader = net_and_loader()
    optimizer = make(model.parameters(), lr=0.01)
    train(model, optimizer, loader, 2)
    before = fingerprint(model, optimizer, [loader])
    first = stable_lr(model, optimizer, loader, nn.CrossEntropyLoss())
    assert_untouched(before, fingerprint(model, optimizer, [loader]))
    torch.manual_seed(9)  # the caller's own random numbers do not matter, only ``seed``
    second = stable_lr(model, optimizer, loader, nn.CrossEntropyLoss())
    assert first == second
    assert hash(first) == hash(second)
    assert stable_lr(model, optimizer, loader, nn.CrossEntropyLoss(), seed=1) != first


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_middle_changes_nothing(error):
    model, loader = net_and_loader()
    optimizer = Adam(model.parameters(), lr=0.01)
    before = fingerprint(model, optimizer, [loader])
    calls = []

    def fails_later(model, batch):
        calls.append(1)
        if len(calls) == 10:
            raise error("in the tenth batch")
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    with pytest.raises(error, match="in the tenth batch"):
        stable_lr(model, optimizer, loader, loss_fn=fails_later)
    assert_untouched(before, fingerprint(model, optimizer, [loader]))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(mode):
    model, loader = net_and_loader()
    optimizer = Adam(model.parameters(), lr=0.01)
    expected = stable_lr(model, optimizer, loader, nn.CrossEntropyLoss())
    before = fingerprint(model, optimizer, [loader])
    with mode():
        found = stable_lr(model, optimizer, loader, nn.CrossEntropyLoss())
        assert not torch.is_grad_enabled()
    assert found == expected
    assert_untouched(before, fingerprint(model, optimizer, [loader]))


def test_the_models_mode_is_kept_and_told():
    model, loader = net_and_loader()
    optimizer = SGD(model.parameters(), lr=0.01)
    training = stable_lr(model, optimizer, loader, nn.CrossEntropyLoss())
    evaluating = stable_lr(model.eval(), optimizer, loader, nn.CrossEntropyLoss())
    assert (training.mode, evaluating.mode) == ("train", "eval")
    assert training.sharpness != evaluating.sharpness
    assert not model.training


# The pre-roll -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "rolled"), [(0, 16), (5, 11), (20, 0)])
def test_an_optimizer_with_history_needs_less_of_a_pre_roll(steps, rolled):
    model, loader = net_and_loader()
    optimizer = Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        train(model, optimizer, loader, 1)
    assert stable_lr(model, optimizer, loader, nn.CrossEntropyLoss(), num_batches=3).gradients == rolled + 3


def test_sgd_needs_no_pre_roll():
    assert quadratic_limit().gradients == 1


def test_adam_in_mid_training_takes_the_p_it_has():
    model, loader = net_and_loader()
    optimizer = Adam(model.parameters(), lr=0.01)
    for _ in range(4):
        train(model, optimizer, loader, 5)
    batches = list(loader)
    found = stable_lr(model, optimizer, batches, nn.CrossEntropyLoss())
    for state in optimizer.state.values():
        state["exp_avg_sq"].mul_(4)  # P doubles, up to eps
    doubled = stable_lr(model, optimizer, batches, nn.CrossEntropyLoss())
    assert doubled.lr == pytest.approx(2 * found.lr, rel=0.02)  # tol of both


# First step, fallback, doubts, layers -------------------------------------------------------------------------------------------


def regression(seed=0, batches=2, dtype=torch.float64):
    """A linear layer of four weights and batches that differ; numpy arrays of the same beside it."""
    rng = np.random.default_rng(seed)
    inputs, targets = rng.normal(size=(batches, 8, 4)), rng.normal(size=(batches, 8, 1))
    model = nn.Linear(4, 1, bias=False, dtype=dtype)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(rng.normal(size=(1, 4))))
    pairs = [(torch.from_numpy(x).to(dtype), torch.from_numpy(y).to(dtype)) for x, y in zip(inputs, targets, strict=True)]
    return model, pairs, inputs, targets


def test_adams_first_step_has_the_preconditioner_of_the_first_batch():
    model, batches, inputs, targets = regression()
    weights = model.weight.detach().numpy().T.copy()
    gradient = 2 * inputs[0].T @ (inputs[0] @ weights - targets[0]) / 8
    hessian = sum(2 * x.T @ x / 8 for x in inputs) / 2
    expected = 38 / np.linalg.eigvals(hessian / (np.abs(gradient) + 1e-3)).real.max()
    found = stable_lr(model, Adam(model.parameters(), lr=0.1, eps=1e-3), batches, nn.MSELoss(), tol=1e-6)
    assert found.first_step_lr == pytest.approx(expected, rel=1e-9)  # 4 weights: Lanczos is exact after 4 products
    assert f"first step {found.first_step_lr:.3g}: " in str(found)


def test_only_a_fresh_adaptive_optimizer_has_a_first_step_of_its_own():
    model, batches, *_ = regression()
    optimizer = Adam(model.parameters(), lr=1e-3)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(batches[0][0]), batches[0][1]).backward()
    optimizer.step()
    assert stable_lr(model, optimizer, batches, nn.MSELoss()).first_step_lr is None
    assert stable_lr(model, SGD(model.parameters(), lr=0.1), batches, nn.MSELoss()).first_step_lr is None
    centered = RMSprop(model.parameters(), lr=0.1, centered=True)  # one gradient has no variance
    assert stable_lr(model, centered, batches, nn.MSELoss()).first_step_lr is None


def test_the_first_step_is_measured_only_for_an_lr_above_the_steady_limit():
    model, batches, *_ = regression()
    found = stable_lr(model, Adam(model.parameters(), lr=0.1), batches, nn.MSELoss())
    assert found.first_step_lr < found.curvature_lr

    def asked(lr: float) -> StableLR:
        problem = Problem(model, Adam(model.parameters(), lr=0.1), batches, nn.MSELoss())
        with problem.preserved():
            return measure_limit(problem, CurvatureSettings(first_step_for=lr))

    for lr, expected in ((1.01, found.first_step_lr), (0.99, None), (0.0, None)):
        again = asked(lr * found.curvature_lr)
        assert again.first_step_lr == expected
        assert again.curvature_lr == found.curvature_lr
        assert again.hvps < found.hvps if expected is None else again.hvps == found.hvps


class SquareOnce(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad


class KinkOnce(torch.autograd.Function):
    """``sqrt(x^2 + w^2)``: a kink for whoever looks from further away than ``w``."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x * x + 1e-18).sqrt()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x = ctx.saved_tensors[0]
        return grad * x / (x * x + 1e-18).sqrt()


def once(function, model, batch):
    inputs, target = batch
    return function.apply(model(inputs) - target).mean()


def test_a_model_without_second_derivative_is_measured_by_differences():
    model, batches, *_ = regression()
    optimizer = Adam(model.parameters(), lr=0.1)
    before = fingerprint(model, optimizer)
    found = stable_lr(model, optimizer, batches, loss_fn=lambda model, batch: once(SquareOnce, model, batch), tol=1e-6)
    exact = stable_lr(model, optimizer, batches, nn.MSELoss(), tol=1e-6)
    assert found.method == "finite_difference"
    assert found.lr == pytest.approx(exact.curvature_lr, rel=1e-6)  # no truncation error; rounding is eps^(2/3) = 4e-11 per product
    assert found.doubts == (CurvatureDoubt.FINITE_DIFFERENCE,)
    assert exact.method == "autograd"
    assert_untouched(before, fingerprint(model, optimizer))


def test_a_model_without_second_derivative_is_refused_where_autograd_is_asked_for():
    model, batches, *_ = regression()
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(CurvatureError, match="pass method='finite_difference'"):
        stable_lr(model, optimizer, batches, loss_fn=lambda model, batch: once(SquareOnce, model, batch), method="autograd")


def test_a_kink_within_the_difference_is_doubted():
    model = nn.Linear(1, 1, bias=False, dtype=torch.float64)
    with torch.no_grad():
        model.weight.zero_()
    batch = (torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    found = stable_lr(model, SGD(model.parameters(), lr=0.1), [batch], loss_fn=lambda model, batch: once(KinkOnce, model, batch))
    # sign(r) / r: half of it at twice the step, an estimated error of 1/2 / 3
    assert found.doubts == (CurvatureDoubt.FINITE_DIFFERENCE, CurvatureDoubt.INACCURATE, CurvatureDoubt.NO_NOISE)


@pytest.mark.parametrize("method", ["autograd", "finite_difference"])
def test_under_autocast_the_curvature_is_that_of_float32(method):
    model, batches, *_ = regression(dtype=torch.float32)
    optimizer = SGD(model.parameters(), lr=0.1)
    plain = stable_lr(model, optimizer, batches, nn.MSELoss(), method=method)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = stable_lr(model, optimizer, batches, nn.MSELoss(), method=method)
    assert found.sharpness == plain.sharpness
    assert found.lr == plain.lr
    assert set(found.doubts) - set(plain.doubts) == {CurvatureDoubt.AUTOCAST}


def test_half_precision_weights_are_doubted():
    model, batches, *_ = regression(dtype=torch.bfloat16)
    found = stable_lr(model, SGD(model.parameters(), lr=0.1), batches, nn.MSELoss(), tol=0.1)
    exact = regression()
    reference = stable_lr(exact[0], SGD(exact[0].parameters(), lr=0.1), exact[1], nn.MSELoss(), tol=1e-6)
    assert CurvatureDoubt.LOW_PRECISION in found.doubts
    assert found.sharpness == pytest.approx(reference.sharpness, rel=0.1)  # a rounding of 2^-8 in every one of a few dozen sums


def test_of_one_batch_the_noise_is_not_known_and_of_two_not_how_well_it_is():
    model, batches, *_ = regression()
    optimizer = SGD(model.parameters(), lr=0.1)
    one, two = (stable_lr(model, optimizer, batches, nn.MSELoss(), num_batches=count) for count in (1, 2))
    assert (one.noise_lr, one.doubts) == (None, (CurvatureDoubt.NO_NOISE,))
    assert two.noise_lr is not None
    assert two.doubts == ((CurvatureDoubt.NOISE_UNSURE,) if two.binding == "noise" else ())


def test_without_memory_for_graphs_the_answer_is_the_same():
    model, loader = net_and_loader()
    optimizer = Adam(model.parameters(), lr=0.01)
    kept = stable_lr(model, optimizer, loader, nn.CrossEntropyLoss())
    before = fingerprint(model, optimizer, [loader])
    again = stable_lr(model, optimizer, loader, nn.CrossEntropyLoss(), graph_memory=0)
    assert (again.lr, again.curvature_lr, again.noise_lr) == (kept.lr, kept.curvature_lr, kept.noise_lr)
    assert CurvatureDoubt.RECOMPUTED in again.doubts
    assert CurvatureDoubt.RECOMPUTED not in kept.doubts
    assert_untouched(before, fingerprint(model, optimizer, [loader]))


def test_with_the_vectors_in_the_hosts_memory_the_answer_is_the_same():
    model, loader = net_and_loader()
    optimizer = Adam(model.parameters(), lr=0.01)
    full, offload = (stable_lr(model, optimizer, loader, nn.CrossEntropyLoss(), memory=memory) for memory in ("full", "offload"))
    assert offload.to_json() == full.to_json()


def test_the_layer_in_front_of_a_scaled_up_one_is_the_sharp_one():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[4].weight.mul_(30)  # what comes before it moves the loss 30 times as fast
    batch = (torch.randn(16, 4).double(), torch.randn(16, 1).double())
    optimizer = SGD(model.parameters(), lr=0.1)
    found = stable_lr(model, optimizer, [batch], nn.MSELoss(), tol=1e-8)

    problem = Problem(model, None, [batch], nn.MSELoss())
    values, vectors = torch.linalg.eigh(dense_hessian(problem, batch))
    parts = vectors[:, -1].split([parameter.numel() for parameter in problem.parameters.values()])
    expected = {name: float(part.square().sum()) for name, part in zip(problem.parameters, parts, strict=True)}
    assert found.sharpness == pytest.approx(float(values[-1]), rel=1e-8)
    assert found.by_parameter == pytest.approx(expected, abs=1e-4)  # an eigenvector is known to the root of its value's error
    assert sum(found.by_parameter.values()) == pytest.approx(1.0, abs=1e-12)
    assert list(found.by_parameter.values()) == sorted(found.by_parameter.values(), reverse=True)
    layer = next(iter(found.by_parameter))
    assert layer.split(".")[0] == "2"
    assert found.advice.startswith(f"curvature binds: {layer} holds {found.by_parameter[layer]:.0%} of the sharpest direction")


def test_every_kind_of_result_survives_json(tmp_path):
    model, batches, *_ = regression()
    adam, sgd = Adam(model.parameters(), lr=0.1), SGD(model.parameters(), lr=0.1)
    for number, found in enumerate(
        [
            stable_lr(model, adam, batches, nn.MSELoss()),
            stable_lr(model, adam, batches[:1], nn.MSELoss(), max_hvps=2),
            stable_lr(model, sgd, batches, nn.MSELoss(), along="update"),
            stable_lr(model, sgd, batches, loss_fn=lambda model, batch: once(SquareOnce, model, batch), method="finite_difference"),
        ]
    ):
        again = StableLR.load(found.save(tmp_path / f"{number}.json"))
        assert again == found
        assert again.doubts == found.doubts
        assert str(again) == str(found)


# No answer ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [SGD, Adam])
def test_a_linear_loss_has_no_limit(make):
    model = nn.Linear(3, 1)
    optimizer = make(model.parameters(), lr=0.1)
    before = fingerprint(model, optimizer)
    with pytest.raises(CurvatureError, match=r"curves upward in no direction here .*; use lrfinder.range_test"):
        stable_lr(model, optimizer, [torch.ones(2, 3)], loss_fn=lambda model, batch: model(batch).mean())
    assert_untouched(before, fingerprint(model, optimizer))


@pytest.mark.parametrize("seed", range(5))
def test_rounding_is_no_upward_curvature(seed):
    torch.manual_seed(seed)
    model = nn.Linear(20, 1)  # float32; 15 of the 21 eigenvalues are zero, the others negative
    batch = (torch.randn(6, 20), torch.zeros(6, 1))
    with pytest.raises(CurvatureError, match="curves upward in no direction"):
        stable_lr(model, SGD(model.parameters(), lr=0.1), [batch], lambda found, target: -(found - target).square().mean())


def test_weight_decay_bounds_a_linear_loss():
    model = nn.Linear(3, 1)
    optimizer = SGD(model.parameters(), lr=0.1, weight_decay=0.5)
    found = stable_lr(model, optimizer, [torch.ones(2, 3)], loss_fn=lambda model, batch: model(batch).mean())
    assert found.lr == pytest.approx(2 / 0.5, rel=1e-6)


BAD = [
    ({"num_batches": 0}, ValueError, "num_batches=0 is too small; pass at least 1"),
    ({"num_batches": 2.0}, TypeError, "num_batches=2.0 is not a whole number"),
    ({"tol": 0}, ValueError, "tol=0 is not a positive finite number"),
    ({"tol": float("nan")}, ValueError, "tol=nan is not a positive"),
    ({"tol": "1"}, TypeError, "tol='1' is not a number"),
    ({"seed": -1}, ValueError, "seed=-1 is too small; pass at least 0"),
    ({"max_hvps": 1}, ValueError, "max_hvps=1 is too small; pass at least 2"),
    ({"method": "magic"}, ValueError, "method='magic' is unknown; choose 'auto', 'autograd' or 'finite_difference'"),
    ({"along": "gradient"}, ValueError, "along='gradient' is unknown; choose 'hessian' or 'update'"),
    ({"graph_memory": -1}, ValueError, "graph_memory=-1 is too small; pass at least 0"),
    ({"memory": "low"}, ValueError, "memory='low' is unknown; choose 'full' or 'offload'"),
    ({"max_hvps": True}, TypeError, "max_hvps=True is not a whole number"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD, ids=[str(bad[0]) for bad in BAD])
def test_a_wrong_argument_is_refused_before_anything_runs(arguments, error, message):
    def never(model, batch):
        pytest.fail("the loss must not be computed")

    model = Quadratic(symmetric(SPECTRUM))
    with pytest.raises(error, match=message):
        stable_lr(model, SGD(model.parameters(), lr=0.1), [0], loss_fn=never, **arguments)


# The ways to give data and loss -------------------------------------------------------------------------------------------------


class ForMapping(nn.Module):
    def __init__(self, wrap):
        super().__init__()
        self.layer = nn.Linear(2, 1, bias=False)
        self.wrap = wrap

    def forward(self, x, y):
        return self.wrap(loss=(self.layer(x) - y).square().mean())


@pytest.mark.parametrize("wrap", [SimpleNamespace, dict])
def test_all_ways_to_give_the_loss_agree(wrap):
    x, y = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.ones(2, 1)
    model = ForMapping(wrap)
    optimizer = SGD(model.parameters(), lr=0.1)
    # mean of (w1 - 1)^2 and (2 w2 - 1)^2: second derivatives 1 and 4
    by_mapping = stable_lr(model, optimizer, [{"x": x, "y": y}])
    by_loss_fn = stable_lr(model, optimizer, [(x, y)], loss_fn=lambda model, batch: (model.layer(batch[0]) - batch[1]).square().mean())
    by_criterion = stable_lr(model.layer, optimizer, lambda: (x, y), nn.MSELoss(), num_batches=1)
    for found in (by_mapping, by_loss_fn, by_criterion):
        assert found.lr == pytest.approx(0.5, rel=1e-6)
        assert found.batch_size == 2


def test_a_criterion_with_parameters_is_part_of_the_problem():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, output, target):
            return 10 * (self.scale - target.mean()).square() + 0 * output.sum()

    model, criterion = nn.Linear(1, 1), Scaled()
    optimizer = SGD([*model.parameters(), *criterion.parameters()], lr=0.1)
    before = fingerprint(criterion)
    found = stable_lr(model, optimizer, [(torch.ones(1, 1), torch.ones(1, 1))], criterion)
    assert found.lr == pytest.approx(2 / 20, rel=1e-6)
    assert_untouched(before, fingerprint(criterion))


# The result ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result():
    return quadratic_limit(SGD, tol=1e-6)


def test_the_result_is_its_lr_as_a_number(result):
    assert float(result) == result.lr


def test_the_result_prints_what_was_measured(result):
    lines = str(result).splitlines()
    assert lines[0] == "largest stable lr 0.154 at these weights (curvature binds)"
    assert lines[1] == "  curvature  0.154: 2 / sharpness, sharpness 13"
    assert lines[2].strip().startswith("residual 0.0%, with 99 % probability at most 13")
    assert lines[3] == "  cost       7 Hessian-vector products by autograd"
    assert lines[4].startswith("  advice     curvature binds: ")
    assert lines[6].startswith("  sharpest   ")
    assert lines[7] == "  valid for  Quadratic, SGD, 1 batch of 1, train mode, seed 0"
    assert " ".join(" ".join(lines[8:]).split()) == f"- {CurvatureDoubt.NO_NOISE.value}"


def test_the_result_survives_json(result, tmp_path):
    for cls in (StableLR, Result):
        assert cls.load(result.save(tmp_path / "limit.json")) == result
    saved = json.loads((tmp_path / "limit.json").read_text())
    assert saved["kind"] == "stable_lr"
    assert saved["schema"] == 1


def test_an_eigenresult_survives_json_without_its_vectors(tmp_path):
    found = EigenResult(values=np.array([4.0, np.nan, -np.inf]), residuals=np.zeros(3), converged=False, hvps=3, vectors=torch.eye(3))
    again = EigenResult.load(found.save(tmp_path / "eigen.json"))
    assert again == found
    assert again.vectors is None
    assert again.values.dtype == np.float64
    assert json.loads((tmp_path / "eigen.json").read_text(), parse_constant=pytest.fail)["values"] == [4.0, "nan", "-inf"]


DAMAGED = {
    "empty": b"",
    "not json": b"lr=0.1",
    "cut off": b'{"kind": "stable_lr", "sch',
    "binary": b"\x89PNG\r\n\xff\xfe",
    "a list": b"[1, 2]",
    "a number": b"3",
    "null": b"null",
    "no kind": b"{}",
    "another kind": b'{"kind": "weather", "schema": 1}',
    "a kind that is no text": b'{"kind": ["stable_lr"], "schema": 1}',
    "another schema": b'{"kind": "stable_lr", "schema": 99}',
    "nothing else": b'{"kind": "stable_lr", "schema": 1}',
    "nested too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_one_sentence(content, tmp_path):
    path = tmp_path / "limit.json"
    path.write_bytes(content)
    assert_one_sentence(path)


@pytest.mark.parametrize(
    "change",
    [{"lr": "0.1"}, {"lr": None}, {"lr": True}, {"hvps": 2**63}, {"hvps": 1.5}, {"mode": 3}, {"converged": 1}, {"extra": 1}, {"lr": {}}],
    ids=lambda change: f"{change!s:.20}",
)
def test_a_file_with_a_wrong_field_is_one_sentence_that_names_it(change, result, tmp_path):
    path = tmp_path / "limit.json"
    path.write_text(json.dumps(result.to_dict() | change))
    assert repr(next(iter(change))) in assert_one_sentence(path)


def assert_one_sentence(path):
    with pytest.raises(ValueError, match=r"limit.json' is not a saved result: ") as caught:
        StableLR.load(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 300
    return str(caught.value)


def test_a_result_of_another_class_is_not_loaded(result, tmp_path):
    path = result.save(tmp_path / "limit.json")
    with pytest.raises(ValueError, match="its kind is 'stable_lr'"):
        EigenResult.load(path)


def test_a_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        StableLR.load(tmp_path / "nothing.json")


def test_what_has_no_table_or_picture_says_so(result, tmp_path):
    eigen = EigenResult(values=np.ones(1), residuals=np.zeros(1), converged=True, hvps=1)
    with pytest.raises(ValueError, match=r"a stable_lr has no table for .csv; save it as .json"):
        result.save(tmp_path / "limit.csv")
    with pytest.raises(ValueError, match=r"a eigen has no picture; save it as .json"):
        eigen.save(tmp_path / "eigen.png")
    with pytest.raises(ValueError, match=r"ends in none of .json, .html, .csv, .png, .svg, .pdf"):
        result.save(tmp_path / "limit.txt")
    with pytest.raises(ValueError, match=r"ends in none of .png, .svg, .pdf"):
        result.plot(tmp_path / "limit.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")])
def test_a_picture_is_written(suffix, start, result, tmp_path):
    path = result.save(tmp_path / f"limit{suffix}")
    assert path.read_bytes().startswith(start)
    assert result.plot(tmp_path / f"again{suffix}").axes
    assert (tmp_path / f"again{suffix}").read_bytes().startswith(start)


def test_a_picture_is_drawn_on_the_given_axes(result):
    figure = Figure()
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.plot([1e-3, 1e-2], [1, 2])
    assert result.plot(ax=axes) is figure
    left, right = axes.get_xlim()
    assert left <= 1e-3
    assert right > result.lr
    assert [line.get_xdata()[0] for line in axes.get_lines()][-1] == result.lr


def test_the_result_cannot_be_changed(result):
    with pytest.raises(AttributeError):
        result.lr = 1.0
