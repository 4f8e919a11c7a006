"""Data-parallel training on two ranks against the same training in one process."""

import os
import signal
import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from launch import run_checks
from small import CRITERION, adam, batches, make_model, outcome, part, same, sgd, state_of, train
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

import hessian
import lrfinder
from hessian.operators.finite_difference import FiniteDifferenceOperator
from hessian.wire import Wire

dist.init_process_group("gloo")
RANK, WORLD = dist.get_rank(), dist.get_world_size()
EVEN, UNEVEN = [32 // WORLD] * WORLD, [20, 12] if WORLD == 2 else [14, 8, 6, 4]
DATA = batches(4, 32)
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def wrapped(norm=False, **options):
    return DistributedDataParallel(make_model(norm), **options)


def difference(first, second):
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def operators(kind, sizes):
    """Of all ranks together, of one process on all the data, and of this rank's part alone."""
    mine = part(DATA, sizes, RANK)
    return [
        kind(hessian.Problem(model, None, data, CRITERION), data)
        for model, data in ((wrapped(), mine), (make_model(), DATA), (make_model(), mine))
    ]


@check
def products():
    """Largest difference to one process, and, lest the check cannot fail, that of the rank's own."""
    found = {}
    vector = torch.randn(84, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for kind in (hessian.HessianOperator, hessian.GGNOperator, FiniteDifferenceOperator):
        for name, sizes in (("even", EVEN), ("uneven", UNEVEN)):
            ours, reference, local = ((op @ vector).tolist() for op in operators(kind, sizes))
            found[f"{kind.__name__} {name}"] = [difference(ours, reference), difference(local, reference)]
    return found


@check
def eigenvalues():
    ours, reference, _ = operators(hessian.HessianOperator, UNEVEN)
    found, right = (hessian.lanczos(op, k=3, tol=1e-12, stop="residual", max_iter=60) for op in (ours, reference))
    noise, all_noise = hessian.batch_sharpness(ours), hessian.batch_sharpness(reference)
    return {"off": difference(found.values, right.values), "values": found.to_json(), "noise off": abs(noise.value - all_noise.value)}


@check
def estimates():
    """Sums over the spectrum and its density: relative differences to one process, and, lest the check cannot fail, the rank's own."""
    found = {}
    for kind in (hessian.HessianOperator, hessian.GGNOperator):
        ours, right, local = (sums(op) for op in operators(kind, UNEVEN))
        off = [max(abs(a / b - 1) for a, b in zip(values, right, strict=True)) for values in (ours, local)]
        found[kind.__name__] = {"off": off[0], "own": off[1], "ours": ours}
    return found


def sums(op):
    density = hessian.spectral_density(op, num_probes=2, steps=20)
    return [hessian.trace(op, num_products=12).value, hessian.frobenius_norm(op).value, density.largest, float(density.density.max())]


@check
def volumes():
    """Bytes that the sockets of this rank sent, against the formulas of the benchmark, which raises where they differ."""
    if not BENCHMARKS.is_dir() or sys.platform != "linux":
        return {}
    sys.path.insert(0, str(BENCHMARKS))
    from scaling import program
    from scaling.volume import Volume

    found = {f"{kind} {name}": figures for kind in program.WRAPPERS for name, figures in program.measure(kind, 5000)["subjects"].items()}
    step = found["DDP step"]
    twice = outcome(lambda: program.check("twice as much", 2 * step["sent"], Volume(step["payload"], step["messages"])))
    return {"sent": found, "twice": twice}


BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


def limit(model, make, data):
    return hessian.stable_lr(model, make(model), data, CRITERION, tol=1e-8, max_hvps=84)


@check
def limits():
    found = {}
    for make in (sgd, adam):
        ours, right = limit(wrapped(), make, part(DATA, EVEN, RANK)), limit(make_model(), make, DATA)
        names = ("lr", "curvature_lr", "noise_lr", "first_step_lr", "sharpness")
        values = [(getattr(ours, name), getattr(right, name)) for name in names]
        found[make.__name__] = {"off": max(abs(a / b - 1) for a, b in values if b), "json": ours.to_json(), "batch": ours.batch_size}
    return found


@check
def critical():
    def found(model, data):
        problem = hessian.Problem(model, sgd(model), data, CRITERION)
        return hessian.critical_lr(problem, data, hessian.update_direction(problem, data[0])).lr

    return [found(wrapped(), part(DATA, EVEN, RANK)), found(make_model(), DATA)]


@check
def sweeps():
    found = {}
    for norm in (False, True):
        for name, sizes in (("even", EVEN), ("uneven", UNEVEN)):
            model = wrapped(norm)
            curve = lrfinder.range_test(model, adam(model), part(DATA, sizes, RANK), CRITERION, num_iter=40)
            plain = make_model(norm)
            right = lrfinder.range_test(plain, adam(plain), DATA, CRITERION, num_iter=40)
            off = difference(curve.losses, right.losses) if len(curve.losses) == len(right.losses) else "lengths"
            found[f"{name}{' norm' * norm}"] = {"off": off, "json": curve.to_json(), "start off": abs(curve.losses[0] - right.losses[0])}
    return found


@check
def held_out():
    """Batches to score on whose sizes differ from each other, and from rank to rank."""
    inputs, target = DATA[0]
    first = 6 if RANK == 0 else 2
    val = [(inputs[:first], target[:first]), (inputs[first:8], target[first:8])]
    model = wrapped()
    curve = lrfinder.range_test(model, sgd(model), part(DATA, EVEN, RANK), CRITERION, val_data=val, num_iter=12)
    with torch.no_grad():
        losses = [(len(y), CRITERION(model(x), y).item()) for x, y in val]
    return {"json": curve.to_json(), "own": losses, "first": float(curve.losses[0])}


class Away(torch.Tensor):
    """A loss that says it does not lie on the CPU."""

    is_cpu = False


def loops(model, data, fault=lambda: None, where=lambda loss: loss, steps=20):
    """A sweep around a loop of the user's own."""
    optimizer = adam(model)
    before = state_of(model, optimizer)
    sweep = lrfinder.LRSweep(model, optimizer, start_lr=1e-4, end_lr=1.0, num_iter=steps)

    def run():
        with sweep:
            for inputs, target in sweep(data):
                loss = CRITERION(model(inputs), target)
                optimizer.zero_grad()
                loss.backward()
                fault()
                optimizer.step()
                sweep.report(where(loss))

    said = outcome(run)
    return said, sweep.curve, same(before, state_of(model, optimizer))


@check
def own_loops():
    def burst_at_once():
        if RANK == 1:
            burst()

    right = loops(make_model(), DATA)[1]
    said, curve, back = loops(wrapped(), part(DATA, EVEN, RANK))
    told, _, again = loops(wrapped(), part(DATA, EVEN, RANK), burst_at_once)
    return {"said": said, "off": difference(curve.losses, right.losses), "back": [back, again], "told": told, "json": curve.to_json()}


def meetings(measure):
    """How often the ranks meet in a measurement, and what it gives."""
    count, sum_ = [0], Wire.sum_

    def counted(wire, tensor):
        count[0] += 1
        sum_(wire, tensor)

    Wire.sum_ = counted
    try:
        return measure(), count[0]
    finally:
        Wire.sum_ = sum_


def range_test(model, data, num_iter, where=lambda loss: loss, **options):
    def loss_fn(model, batch):
        return where(CRITERION(model(batch[0]), batch[1]))

    return lrfinder.range_test(model, sgd(model), data, loss_fn=loss_fn, start_lr=1e-4, end_lr=1e-2, num_iter=num_iter, **options)


@check
def met():
    """How often for each of 40 more steps, and whether that changes the curve."""
    mine, found = part(DATA, EVEN, RANK), {}

    def own_loop(steps, **options):
        return loops(wrapped(), mine, steps=steps, **options)[1]

    def ranged(steps, **options):
        return range_test(wrapped(norm=True), mine, steps, **options)

    def away(loss):
        return loss.as_subclass(Away)

    for name, sweep, options in [
        ("own loop", own_loop, {}),
        ("own loop, away", own_loop, {"where": away}),
        ("range test", ranged, {}),
        ("range test, away", ranged, {"where": away}),
        ("windows", ranged, {"accumulate": 2}),
        ("windows, away", ranged, {"accumulate": 2, "where": away}),
        ("scaler", ranged, {"scaler": torch.amp.GradScaler("cpu", init_scale=2.0)}),
    ]:
        (_, few), (curve, many) = (meetings(partial(sweep, steps, **options)) for steps in (20, 60))
        found[name] = {"a step": (many - few) / 40, "json": curve.to_json()}
    return found


@check
def mixed():
    """Rank 0 reports numbers, rank 1 tensors on a device: known is what all know."""
    mine = part(DATA, EVEN, RANK)
    where = (lambda loss: loss.as_subclass(Away)) if RANK == 1 else (lambda loss: loss.item())
    return [loops(wrapped(), mine, where=each)[1].to_json() for each in (where, lambda loss: loss)]


@check
def skips():
    """One step in five is not made on one of the ranks, which one changes."""
    mine, found = part(DATA, EVEN, RANK), []
    for where in (lambda loss: loss, lambda loss: loss.as_subclass(Away)):
        model, seen = wrapped(), []
        optimizer = sgd(model)
        with lrfinder.LRSweep(model, optimizer, start_lr=1e-4, end_lr=1.0, num_iter=20) as sweep:
            for index, (inputs, target) in enumerate(sweep(mine)):
                seen.append(optimizer.param_groups[0]["lr"])
                skipped = index % 5 == 4
                sweep.report(where(CRITERION(model(inputs), target)), skipped=skipped and index // 5 % WORLD == RANK)
        found.append({"json": sweep.curve.to_json(), "lrs": seen})
    return found


@check
def a_loader_that_draws():
    """Random numbers come in the order of one process: a loader that shuffles by the global generator, and dropout."""

    def sweep(model):
        data = TensorDataset(*batches(1, 64)[0])
        loader = DataLoader(data, batch_size=16, shuffle=True)  # the same on every rank
        return lrfinder.range_test(model, adam(model), loader, CRITERION, num_iter=30)

    def with_dropout(model):
        return torch.nn.Sequential(*model[:2], torch.nn.Dropout(0.3), model[2])

    ours, right = sweep(DistributedDataParallel(with_dropout(make_model()))), sweep(with_dropout(make_model()))
    return {"json": ours.to_json(), "off": difference(ours.losses, right.losses)}


@check
def accumulation():
    """Windows of three of four micro-batches: each rank makes as many backward passes."""
    model, mine = wrapped(), part(DATA, EVEN, RANK)
    curve = lrfinder.range_test(model, sgd(model), mine[: 4 - RANK % 2], CRITERION, num_iter=12, accumulate=3)
    return curve.to_json()


def loader(size=256):
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(size, 5, generator=generator, dtype=torch.float64)
    data = TensorDataset(inputs, (inputs[:, 0] > 0).long() + (inputs[:, 1] > 0.5).long())
    return DataLoader(data, batch_size=16, sampler=DistributedSampler(data, WORLD, RANK, seed=1))


@check
def suggestion():
    """The suggestion, and that model, optimizer and loader are as before, and training goes on as without us."""
    found = {}
    for options in ({}, {"gradient_as_bucket_view": True}, {"find_unused_parameters": True}, {"static_graph": True}):
        runs = []
        for measured in (False, True):
            torch.default_generator.manual_seed(RANK)
            model, data = wrapped(norm=True, **options), loader()
            optimizer = adam(model)
            train(model, optimizer, list(data), 3)
            before = state_of(model, optimizer)
            text = lrfinder.find_lr(model, optimizer, data, CRITERION, budget="quick").to_json() if measured else ""
            back = same(before, state_of(model, optimizer))
            train(model, optimizer, list(data), 3)
            runs.append(state_of(model, optimizer))
        found[" ".join(options) or "plain"] = {"json": text, "back": back, "goes on": same(*runs)}
    return found


@check
def probes():
    model = wrapped()
    found = lrfinder.find_lr(model, sgd(model), loader(), CRITERION, budget="standard", total_steps=200)
    return {"json": found.to_json(), "scored": found.probes.scored, "samples": found.curve.samples, "batch": found.curve.batch_size}


@check
def ended():
    """A function without end on the other ranks; on rank 1 it ends after 15 batches."""
    supply = iter(part(batches(60, 32), EVEN, RANK)[: 15 if RANK == 1 else 60])
    model = wrapped()
    curve = lrfinder.range_test(model, sgd(model), partial(next, supply), CRITERION, num_iter=40)
    return curve.to_json()


def guarded(measure, norm=True):
    """What a measurement raises, and whether all is as before, and the ranks can still train together.

    Without ``norm`` no rank waits for another in a forward pass: they still meet after the next one if the step of one fails.
    """
    model = wrapped(norm)
    optimizer = adam(model)
    mine = part(DATA, EVEN, RANK)
    train(model, optimizer, mine, 2)
    before = state_of(model, optimizer)
    said = outcome(lambda: measure(model, optimizer, mine))
    back = same(before, state_of(model, optimizer))
    train(model, optimizer, mine, 2)
    return {"said": said, "back": back, "weights": sum(float(tensor.detach().sum()) for tensor in model.parameters())}


def failing(where, fault, at=7):
    """A measurement in which rank 1 fails at a call of the loss, the data, or the optimizer."""
    calls = {"loss": 0, "data": 0, "step": 0}

    def count(place):
        calls[place] += 1
        if RANK == 1 and place == where and calls[place] == at:
            return fault()
        return None

    def measure(model, optimizer, data):
        def loss_fn(model, batch):
            output = model(batch[0])
            told = count("loss")
            return CRITERION(output, batch[1]) * (1.0 if told is None else told)

        def source():
            count("data")
            return data[calls["data"] % len(data)]

        handle = optimizer.register_step_pre_hook(lambda *_: count("step"))
        try:
            return lrfinder.find_lr(model, optimizer, source, loss_fn=loss_fn, budget="quick")
        finally:
            handle.remove()

    return measure


def burst():
    raise ZeroDivisionError("a bad sample")


@check
def errors():
    places = ("loss", "data", "step")
    return {
        f"{where} {at}": guarded(failing(where, burst, at), norm=where != "step")
        for where in places
        for at in (1, 7, 60)[: 3 if where == "loss" else 2]
    }


@check
def interrupts():
    found = {"ctrl-c": guarded(failing("loss", lambda: signal.raise_signal(signal.SIGINT), 30))}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    found["sigterm"] = guarded(failing("step", lambda: os.kill(os.getpid(), signal.SIGTERM)), norm=False)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return found


@check
def nans():
    """NaN on rank 1 at step 9 ends the sweep of every rank there."""
    model, calls = wrapped(), [0]

    def loss_fn(model, batch):
        calls[0] += 1
        return CRITERION(model(batch[0]), batch[1]) * (float("nan") if RANK == 1 and calls[0] == 10 else 1.0)

    return lrfinder.range_test(model, sgd(model), part(DATA, EVEN, RANK), loss_fn=loss_fn).to_json()


@check
def interrupted_range_test():
    """The interrupted rank returns what it has, as alone; the other is told."""
    calls = [0]

    def loss_fn(model, batch):
        output = model(batch[0])
        calls[0] += 1
        if RANK == 1 and calls[0] == 12:
            signal.raise_signal(signal.SIGINT)
        return CRITERION(output, batch[1])

    return guarded(lambda model, optimizer, data: lrfinder.range_test(model, optimizer, data, loss_fn=loss_fn))


@check
def alone():
    """A plain model in a process group is this rank's own affair: nobody is waited for."""
    if RANK == 0:
        model = make_model()
        lrfinder.range_test(model, sgd(model), DATA, CRITERION, num_iter=5)
    return "done"


run_checks(CHECKS, RANK, os.environ["FOUND"])
dist.destroy_process_group()
