"""Sharded training (FSDP2, tensor parallelism, both) on two or four ranks against the same training in one process."""

import os
import signal
import traceback

import torch
import torch.distributed as dist
from launch import run_checks
from small import CRITERION, adam, batches, make_model, outcome, part, same, sgd, state_of, train
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, Partial
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import hessian
import lrfinder
from hessian.operators.finite_difference import FiniteDifferenceOperator
from hessian.operators.unsharded import UnshardedGGNOperator, UnshardedHessianOperator
from hessian.vectors import random_unit

dist.init_process_group("gloo")
RANK, WORLD = dist.get_rank(), dist.get_world_size()
DATA = batches(4, 32)
PLAN = {"0": ColwiseParallel(), "2": RowwiseParallel()}
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def sharded(model, mesh):
    for layer in model:
        if isinstance(layer, nn.Linear):
            fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def fsdp():
    return sharded(make_model(), init_device_mesh("cpu", (WORLD,))), part(DATA, [32 // WORLD] * WORLD, RANK)


def hybrid():
    mesh = init_device_mesh("cpu", (2, WORLD // 2), mesh_dim_names=("replicate", "shard"))
    return sharded(make_model(), mesh), part(DATA, [32 // WORLD] * WORLD, RANK)


def tensor():
    mesh = init_device_mesh("cpu", (WORLD,), mesh_dim_names=("tp",))
    return parallelize_module(make_model(width=8), mesh, dict(PLAN)), DATA


def both():
    mesh = init_device_mesh("cpu", (2, WORLD // 2), mesh_dim_names=("dp", "tp"))
    model = parallelize_module(make_model(width=8), mesh["tp"], dict(PLAN))
    return sharded(model, mesh["dp"]), part(DATA, [16, 16], mesh["dp"].get_local_rank())


KINDS = {"fsdp": fsdp, "tensor": tensor} if WORLD == 2 else {"hybrid": hybrid, "both": both}


def plain(make):
    """The whole model; widths that tensor parallelism cannot divide are left to the others."""
    return make_model(width=8 if make in (tensor, both) else 9)


def each(function):
    """One value for every kind of division; of one that fails, what it said."""
    found = {}
    for name, make in KINDS.items():
        try:
            found[name] = function(make)
        except Exception:
            found[name] = {"failed": traceback.format_exc()[-1500:]}
    return found


@check
def eigenvalues():
    def found(make):
        right = hessian.lanczos(hessian.HessianOperator(hessian.Problem(plain(make), None, DATA, CRITERION), DATA), 3, **EXACT).values
        model, data = make()
        kind = UnshardedHessianOperator if make in (fsdp, hybrid) else FiniteDifferenceOperator if make is both else hessian.HessianOperator
        found = hessian.lanczos(kind(hessian.Problem(model, None, data, CRITERION), data), 3, **EXACT)
        refused = outcome(lambda: UnshardedGGNOperator(hessian.Problem(model, None, data, CRITERION), data)) if make is both else ""
        off = float(abs(found.values - right).max())
        return {"off": off, "json": found.to_json(), "shapes": list(found.vectors.shape), "refused": refused}

    return each(found)


def estimates_of(hessian_op, ggn):
    """Sums over the spectrum, its density, and the batches' own curvature."""
    density = hessian.spectral_density(hessian_op, num_probes=2, steps=20, memory="offload")
    return {
        "ggn": hessian.lanczos(ggn, **EXACT).values.tolist(),
        "ggn trace": hessian.trace(ggn, num_products=12).value,
        "trace": hessian.trace(hessian_op, num_products=12).value,
        "exact trace": hessian.trace(hessian_op, num_products=90).value,
        "norm": hessian.frobenius_norm(hessian_op).value,
        "rank": hessian.effective_rank(ggn, num_products=24).value,
        "density": [density.smallest, density.largest, float(density.density.max())],
        "sharpness": hessian.batch_sharpness(hessian_op).value,
    }


@check
def estimates():
    """Ranks with different numbers of samples; the Hessian's own operator beside that by differences, which has no batches."""

    def found(make):
        two = DATA[:2]
        whole = hessian.Problem(plain(make), None, two, CRITERION)
        right = estimates_of(hessian.HessianOperator(whole, two), hessian.GGNOperator(whole, two))
        model, _ = make()
        data = part(two, [20, 12], RANK) if make is fsdp else two
        problem = hessian.Problem(model, None, data, CRITERION)
        kinds = (UnshardedHessianOperator, UnshardedGGNOperator) if make is fsdp else (hessian.HessianOperator, hessian.GGNOperator)
        ours = estimates_of(*(kind(problem, data) for kind in kinds))
        differences = FiniteDifferenceOperator(problem, data)
        return {
            "off": {name: off_by(ours[name], value) for name, value in right.items()},
            "ours": ours,
            "by differences": off_by(hessian.trace(differences, num_products=12).value, right["trace"]),
            "refused": outcome(lambda: hessian.batch_sharpness(differences)),
        }

    return each(found)


def off_by(ours, right):
    """Largest relative difference."""
    pairs = zip(*(value if isinstance(value, list) else [value] for value in (ours, right)), strict=True)
    return max(abs(a / b - 1) for a, b in pairs)


EXACT = {"tol": 1e-9, "stop": "residual", "max_iter": 84}


@check
def differences():
    def found(make):
        model, data = make()
        op = FiniteDifferenceOperator(hessian.Problem(model, None, data, CRITERION), data)
        drawn, whole = op.space.random_unit(op.like, 5), random_unit(op.size, op.like, 5)
        exact = plain(make)
        reference = hessian.HessianOperator(hessian.Problem(exact, None, DATA, CRITERION), DATA) @ whole
        return {
            "start": abs(op.space.norm(drawn) - 1),
            "product": abs(op.space.norm(op @ drawn) - float(reference.norm())) / float(reference.norm()),
            "dot": abs(op.space.dot(drawn, op @ drawn) - float(whole @ reference)),
            "local": abs(float(drawn @ (op @ drawn)) - float(whole @ reference)),
        }

    return each(found)


@check
def traps():
    """What would be zero or a part, without a word; half precision of a policy; a loss that is yet to be summed."""
    model, data = fsdp()
    told = [outcome(lambda kind=kind: kind(hessian.Problem(model, None, data, CRITERION), data)) for kind in OPERATORS]
    layers = make_model().float()
    for layer in (layers[0], layers[2], layers):
        fully_shard(layer, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    low = [(inputs.float(), target) for inputs, target in data]
    half = hessian.stable_lr(layers, sgd(layers), low, CRITERION, max_hvps=5)
    part_of_loss = DTensor.from_local(torch.tensor(1.0 + RANK), init_device_mesh("cpu", (WORLD,)), [Partial()])
    weight = torch.ones((), requires_grad=True)
    loss = hessian.Problem(nn.Linear(1, 1), None, [0], loss_fn=lambda model, batch: part_of_loss * weight).loss(0)
    return {
        "told": told,
        "half": [doubt.name for doubt in half.doubts],
        "loss": [float(loss), part_of_loss.item()],
    }


OPERATORS = (hessian.HessianOperator, hessian.GGNOperator)


@check
def limits():
    def found(make):
        values = {}
        for optimizer in (sgd, adam) if WORLD == 2 else (adam,):
            whole = plain(make)
            right = hessian.stable_lr(whole, optimizer(whole), DATA, CRITERION, tol=1e-8, max_hvps=84)
            model, data = make()
            ours = hessian.stable_lr(model, optimizer(model), data, CRITERION, tol=1e-8, max_hvps=84)
            names = ("curvature_lr", "noise_lr", "first_step_lr", "sharpness")
            pairs = [(getattr(ours, name), getattr(right, name)) for name in names]
            off = max(abs(a / b - 1) for a, b in pairs if a and b)
            shares = max(abs(ours.by_parameter[name] - share) for name, share in right.by_parameter.items())
            values[optimizer.__name__] = {"off": off, "shares off": shares, "json": ours.to_json(), "method": ours.method}
        return values

    return each(found)


@check
def sweeps():
    def found(make):
        whole = plain(make)
        right = lrfinder.range_test(whole, adam(whole), DATA, CRITERION, num_iter=40 if WORLD == 2 else 15)
        model, data = make()
        optimizer = adam(model)
        before = state_of(model, optimizer)
        curve = lrfinder.range_test(model, optimizer, data, CRITERION, num_iter=40 if WORLD == 2 else 15)
        back = same(before, state_of(model, optimizer))
        alike = len(curve.losses) == len(right.losses)
        return {"off": float(abs(curve.losses - right.losses).max()) if alike else "lengths", "back": back, "json": curve.to_json()}

    return each(found)


@check
def suggestion():
    def found(make):
        runs = []
        for measured in (False, True):
            model, data = make()
            optimizer = adam(model)
            train(model, optimizer, data, 3)
            model(data[0][0])  # leaves whole parameters behind
            getattr(model, "reshard", lambda: None)()
            before = state_of(model, optimizer)
            text = lrfinder.find_lr(model, optimizer, data, CRITERION, budget="quick").to_json() if measured else ""
            back = same(before, state_of(model, optimizer))
            train(model, optimizer, data, 3)
            runs.append(state_of(model, optimizer))
        return {"json": text, "back": back, "goes on": same(*runs)}

    return each(found)


@check
def errors():
    def found(make):
        model, data = make()
        optimizer = adam(model)
        train(model, optimizer, data, 2)
        before, calls = state_of(model, optimizer), [0]

        def loss_fn(model, batch):
            output = model(batch[0])
            calls[0] += 1
            if RANK == 1 and calls[0] == 20:
                raise ZeroDivisionError("a bad sample")
            if RANK == 1 and calls[0] == 40:
                signal.raise_signal(signal.SIGINT)
            return CRITERION(output, batch[1])

        said = [outcome(lambda: lrfinder.find_lr(model, optimizer, data, loss_fn=loss_fn, budget="quick")) for _ in range(2)]
        back = same(before, state_of(model, optimizer))
        train(model, optimizer, data, 2)
        return {"said": said, "back": back}

    return each(found)


if WORLD == 4:  # as slow as it is wide
    CHECKS = {name: CHECKS[name] for name in ("eigenvalues", "limits", "sweeps", "errors")}
run_checks(CHECKS, RANK, os.environ["FOUND"])
dist.destroy_process_group()
