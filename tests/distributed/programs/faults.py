"""Failures that a rank cannot tell of at once: inside the training's own collectives, standing still, not coming, killed."""

import json
import os
import signal
import time
from pathlib import Path

import torch
import torch.distributed as dist
from launch import run_checks
from small import CRITERION, adam, batches, make_model, outcome, part, same, sgd, state_of
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import hessian
import lrfinder

dist.init_process_group("gloo")
signal.signal(signal.SIGTERM, signal.SIG_IGN)  # torchrun sends it to the others once a rank is dead: they are to end by themselves
RANK, WORLD = dist.get_rank(), dist.get_world_size()
PATIENCE = float(os.environ["LRFINDER_TIMEOUT"])
DATA = part(batches(4, 32), [16, 16], RANK)
CHECKS = {}


def check(function):
    CHECKS[function.__name__] = function
    return function


def on_new_group():
    """On a process group of its own: one that a failure came into the middle of is of no more use."""
    return DistributedDataParallel(make_model(), process_group=dist.new_group([0, 1]))


def told(model, measure):
    optimizer = adam(model)
    before, begin = state_of(model, optimizer), time.monotonic()
    said = outcome(lambda: measure(model, optimizer))
    took = time.monotonic() - begin
    timeouts = [str(group._get_backend(torch.device("cpu")).options._timeout) for group in groups_of(model)]
    return {"said": said, "back": same(before, state_of(model, optimizer)), "seconds": took, "timeouts": timeouts}


def groups_of(model):
    return [model.process_group] if isinstance(model, DistributedDataParallel) else []


class Burst(torch.autograd.Function):
    """Fails in its ninth backward pass on rank 1."""

    passes = 0

    @staticmethod
    def forward(ctx, value):
        return value.clone()

    @staticmethod
    def backward(ctx, gradient):
        Burst.passes += 1
        if RANK == 1 and Burst.passes == 9:
            raise ZeroDivisionError("a bad gradient")
        return gradient


@check
def in_a_backward_pass():
    def loss_fn(model, batch):
        return CRITERION(Burst.apply(model(batch[0])), batch[1])

    return told(on_new_group(), lambda model, optimizer: lrfinder.range_test(model, optimizer, DATA, loss_fn=loss_fn))


@check
def in_a_sharded_forward_pass():
    """Between two layers, where the others wait for the next one's shards."""
    mesh, calls = init_device_mesh("cpu", (WORLD,)), [0]
    model = make_model()
    fully_shard(model[0], mesh=mesh)
    fully_shard(model[2], mesh=mesh)
    fully_shard(model, mesh=mesh)

    def burst(*_):
        calls[0] += 1
        if RANK == 1 and calls[0] == 9:
            raise ZeroDivisionError("a bad layer")

    model[1].register_forward_hook(burst)
    return told(model, lambda model, optimizer: lrfinder.range_test(model, optimizer, DATA, CRITERION))


@check
def in_a_step_before_a_forward_pass_that_waits():
    """``DistributedDataParallel`` sends the buffers of batch norm around before every forward pass, and nobody asked before it."""
    model, calls = DistributedDataParallel(make_model(norm=True), process_group=dist.new_group([0, 1])), [0]

    def burst(*_):
        calls[0] += 1
        if RANK == 1 and calls[0] == 9:
            raise ZeroDivisionError("a bad step")

    def measure(model, optimizer):
        handle = optimizer.register_step_pre_hook(burst)
        try:
            return lrfinder.range_test(model, optimizer, DATA, CRITERION)
        finally:
            handle.remove()

    return told(model, measure)


@check
def standing_still():
    calls = [0]

    def loss_fn(model, batch):
        output = model(batch[0])
        calls[0] += 1
        if RANK == 1 and calls[0] == 9:
            time.sleep(1.5 * PATIENCE)
        return CRITERION(output, batch[1])

    return told(on_new_group(), lambda model, optimizer: lrfinder.range_test(model, optimizer, DATA, loss_fn=loss_fn))


@check
def not_coming():
    """Rank 0 measures, rank 1 does something else; the next time both come."""
    model = on_new_group()
    first = told(model, lambda model, optimizer: hessian.stable_lr(model, optimizer, DATA, CRITERION)) if RANK == 0 else None
    dist.barrier(dist.new_group([0, 1]))
    return {"first": first, "then": hessian.stable_lr(model, sgd(model), DATA, CRITERION).to_json()}


@check
def killed():
    calls = [0]

    def loss_fn(model, batch):
        calls[0] += 1
        if RANK == 1 and calls[0] == 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return CRITERION(model(batch[0]), batch[1])

    return told(on_new_group(), lambda model, optimizer: lrfinder.find_lr(model, optimizer, DATA, loss_fn=loss_fn, budget="quick"))


run_checks(CHECKS, RANK, os.environ["FOUND"])
Path(os.environ["FOUND"], f"ended{RANK}").write_text(json.dumps(True))
os._exit(0)  # a group that lost a rank does not let go
