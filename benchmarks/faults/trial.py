"""One finder in one scenario: what it left changed, what reached the user, and how the training goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from peers import MissingPeer, quiet

from faults.fault import AT
from faults.finders import Call, Finder
from faults.items import bits, look
from faults.scenarios import Scenario
from faults.training import Training, build, seed, train

AFTERWARDS = 10  # steps of training
ITEM_AFTERWARDS = "ten steps afterwards as without the finder"
ITEM_SEEDED = "the same, all generators seeded first"

Record = dict[str, Any]


def trial(finder: Finder, scenario: Scenario) -> Record:
    """``tried`` and ``changed`` items, ``reached``: what came out of the call, ``recorded``: the losses it handed over."""
    with workplace():
        training = build(scenario)
        before = look(training)
        call, reached = attempt(finder, training, scenario.runs)
        after = look(training)
        losses, recorded = training.fault.losses, handed_over(call)
        clean = {name: after[name] == before[name] for name in before if before[name] is not None}
        clean[ITEM_AFTERWARDS] = goes_on(training) == reference(scenario, seeded=False)
    # What goes on bit for bit as it is, does so from other random numbers too: only the others are run once more.
    clean[ITEM_SEEDED] = clean[ITEM_AFTERWARDS] or seeded_after(finder, scenario) == reference(scenario, seeded=True)
    changed = [name for name, same in clean.items() if not same]
    counts = {"losses": losses, "recorded": recorded, "after_fault": max(0, losses - AT + 1)}
    return {"tried": list(clean), "changed": changed, **reached, **counts}


def warm_up(finder: Finder) -> None:
    """Call it once, for seven steps: what a package does when it is imported is no trace of its finder."""
    with workplace():
        attempt(finder, build(Scenario(fault="raise")), 1)


@contextlib.contextmanager
def workplace() -> Iterator[None]:
    """An empty working directory with a folder for temporary files in it; the handler of Ctrl-C is put back."""
    home, handler, temporary = Path.cwd(), signal.getsignal(signal.SIGINT), tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        tempfile.tempdir = os.path.join(folder, "tmp")
        os.mkdir(tempfile.tempdir)
        try:
            yield
        finally:
            tempfile.tempdir = temporary
            signal.signal(signal.SIGINT, handler)
            os.chdir(home)


@contextlib.contextmanager
def no_log() -> Iterator[None]:
    """Two of the peers log every error that they let through."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def attempt(finder: Finder, training: Training, runs: int) -> tuple[Call | None, Record]:
    """The call, and what came out of it."""
    call = None
    try:
        with quiet(), no_log():
            call = finder(training)
            for _ in range(runs):
                call.run()
    except MissingPeer:
        raise
    except BaseException as error:  # SystemExit too: what reaches the user is what is asked
        own = error is training.fault.error or (training.fault.kind == "interrupt" and isinstance(error, KeyboardInterrupt))
        return call, {"reached": type(error).__name__, "own": own, "message": str(error).partition("\n")[0][:200]}
    return call, {"reached": "", "own": False, "message": call.says()}


def handed_over(call: Call | None) -> int:
    """How many losses the user can read; 0 where there is no way to them."""
    try:
        return call.recorded() if call else 0
    except Exception:  # a finder without a history may say so by raising
        return 0


def goes_on(training: Training) -> Any:
    """Losses and weights of the training that follows, the fault gone; or why it cannot go on."""
    training.fault.arm("none")
    try:
        losses = train(training, AFTERWARDS)
    except Exception as error:
        return repr(error)
    return repr(losses), [bits(parameter) for parameter in training.model.parameters()]


def seeded_after(finder: Finder, scenario: Scenario) -> Any:
    """The training that follows, where the user seeds every generator first: what is left is damage, not luck."""
    with workplace():
        training = build(scenario)
        attempt(finder, training, scenario.runs)
        seed(training.loader, 1)
        return goes_on(training)


@cache
def reference(scenario: Scenario, seeded: bool) -> Any:
    """The same training without a finder."""
    training = build(scenario)
    if seeded:
        seed(training.loader, 1)
    return goes_on(training)
