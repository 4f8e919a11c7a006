"""In company: beside another finder in another thread, inside a running event loop, inside a notebook."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import nbformat
import pytest
import torch
from digest import GLOBAL_GENERATORS, digest, sdp_flags
from harness import clean_run
from nbclient import NotebookClient
from oracles import differences
from subjects import ENTRIES, OPTIMIZERS, Subject, make_subject
from trainings import seed_by_hand

from hessian.errors import MeasurementError
from hessian.operators.graphs import differentiable_twice

ADAM, SGD = OPTIMIZERS["adam mid-training onecycle"], OPTIMIZERS["sgd mid-training cosine"]
PATIENCE = 60.0  # seconds until a test that hangs gives up
OTHER = 0.3  # seconds that one thread waits for another, which may not be allowed to come


def in_threads(*works: Callable[[], Any]) -> list[BaseException]:
    """All at once; what they raised."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], Any]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    return errors


# Two threads ----------------------------------------------------------------------------------------------------------------------------


def ten_steps_from_seed(subject: Subject) -> str:
    """The global generators belong to all threads, so that only what is each model's own can be compared."""
    seed_by_hand(3, None)
    return subject.ten_steps()


def autocast() -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize(("first", "second"), [("find_lr", "find_lr"), ("range_test", "stable_lr"), ("stable_lr", "stable_lr")])
def test_two_finders_in_two_threads_harm_neither_model(first, second):
    subjects = [make_subject(ADAM), make_subject(SGD)]
    before = [digest(subject) for subject in subjects]
    together = threading.Barrier(2, timeout=PATIENCE)

    def work(subject: Subject, kind: Any, entry: str, precision: Callable[[], AbstractContextManager[Any]]) -> Callable[[], None]:
        def run() -> None:
            together.wait()
            with precision():
                ENTRIES[entry](subject, kind)

        return run

    errors = in_threads(work(subjects[0], ADAM, first, nullcontext), work(subjects[1], SGD, second, autocast))
    assert all(isinstance(error, MeasurementError) for error in errors), errors  # they draw from one generator: an answer is luck
    for subject, kind, old in zip(subjects, (ADAM, SGD), before, strict=True):
        assert set(differences(old, digest(subject))) <= set(GLOBAL_GENERATORS)
        assert ten_steps_from_seed(subject) == ten_steps_from_seed(make_subject(kind))


def test_one_finder_in_a_thread_puts_the_global_generators_back_too():
    subject = make_subject(ADAM)
    before = digest(subject)
    assert in_threads(lambda: ENTRIES["find_lr"](subject, ADAM)) == []
    assert differences(before, digest(subject)) == []
    assert subject.ten_steps() == clean_run("adam mid-training onecycle", "find_lr").afterwards


def test_two_threads_leave_the_attention_kernels_as_they_were():
    """The flags belong to the process: the second thread, come before the first has left, would take the first one's for the user's."""
    flags, entered, left = sdp_flags(), threading.Event(), threading.Event()

    def first() -> None:
        with differentiable_twice([]):
            entered.set()
            second_entered.wait(OTHER)
        left.set()

    second_entered = threading.Event()

    def second() -> None:
        entered.wait(PATIENCE)
        with differentiable_twice([]):
            second_entered.set()
            left.wait(OTHER)

    try:
        assert in_threads(first, second) == []
        assert sdp_flags() == flags
    finally:
        torch.backends.cuda.enable_flash_sdp(flags[0])
        torch.backends.cuda.enable_mem_efficient_sdp(flags[1])


# A running event loop -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_finder_runs_inside_an_event_loop(entry):
    """``asyncio.run`` has a handler of its own for Ctrl-C."""
    subject = make_subject(ADAM)

    async def main() -> tuple[Any, Any, list[str]]:
        before = digest(subject)
        handler = signal.getsignal(signal.SIGINT)
        result = ENTRIES[entry](subject, ADAM)
        assert signal.getsignal(signal.SIGINT) is handler
        await asyncio.sleep(0)
        return result, handler, differences(before, digest(subject))

    outside = signal.getsignal(signal.SIGINT)
    result, handler, changed = asyncio.run(main())
    assert changed == []
    assert handler is not outside or not hasattr(asyncio, "Runner")  # which came with Python 3.11
    assert result == ENTRIES[entry](make_subject(ADAM), ADAM)
    assert subject.ten_steps() == clean_run("adam mid-training onecycle", entry).afterwards


@pytest.mark.skipif(not hasattr(asyncio, "Runner"), reason="from Python 3.11 on")
def test_ctrl_c_in_an_event_loop_cancels_the_task_as_asyncio_has_it():
    """The first one does not raise: the finder ends as usual, then the task is cancelled."""
    subject, finished = make_subject(ADAM), []
    before = digest(subject)
    subject.wire.arm("loss", 5, lambda: signal.raise_signal(signal.SIGINT))

    async def main() -> None:
        finished.append(ENTRIES["range_test"](subject, ADAM).status)
        await asyncio.sleep(1)

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert finished in (["completed"], ["diverged"])
    assert differences(before, digest(subject)) == []


# A notebook -----------------------------------------------------------------------------------------------------------------------------

CELL = """
import torch, lrfinder
model = torch.nn.Linear(3, 1)
before = [parameter.clone() for parameter in model.parameters()]
data = [(torch.randn(8, 3), torch.randn(8, 1)) for _ in range(5)]
curve = lrfinder.range_test(model, torch.optim.SGD(model.parameters(), lr=0.1), data, torch.nn.MSELoss(), num_iter=20)
assert all(torch.equal(old, new) for old, new in zip(before, model.parameters()))
import asyncio
assert asyncio.get_running_loop().is_running()
print(len(curve.lrs) > 10)
curve
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # those of the notebook's own packages
def test_a_cell_of_a_notebook(monkeypatch, tmp_path):
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))  # nothing of the user's settings
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    NotebookClient(notebook, timeout=PATIENCE, kernel_name="python3").execute()
    printed, shown = (output for output in notebook.cells[0].outputs if output.get("name") != "stderr")  # where the bar was
    assert printed.text == "True\n"
    assert "range test" in shown.data["text/plain"] or "LRCurve" in shown.data["text/plain"]
