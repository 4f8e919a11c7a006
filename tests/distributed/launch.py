"""Programs under a real ``torchrun``: many checks in one start, each rank writing what it found."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from commands import environment

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]
ABORTED = "terminate called without an active exception"
LIMIT = 120  # seconds until a start counts as hung

Check = Callable[[], Any]


def torchrun(*arguments: str, ranks: int, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """``torchrun --nproc-per-node ranks ...`` in a folder; once more where a process was aborted while it ended.

    Seen once in some fifty starts: a thread that nobody had joined, torch's or that of our connections.
    """
    done = start(*arguments, ranks=ranks, folder=folder, **more)
    return start(*arguments, ranks=ranks, folder=folder, **more) if ABORTED in done.stderr else done


def start(*arguments: str, ranks: int, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """One start."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks), *arguments]
    paths = ":".join(map(str, (ROOT, ROOT / "tests", ROOT / "tests" / "distributed")))
    return subprocess.run(
        command, cwd=folder, env=environment(PYTHONPATH=paths, **more), capture_output=True, text=True, timeout=LIMIT, check=False
    )


def found_by(program: str, ranks: int, base: Path, **more: str) -> list[dict[str, Any]]:
    """What every rank of a program found, by check; ``more`` is environment. Run once, whoever asks: several workers may."""
    folder = base / f"{program}-{ranks}"
    try:
        folder.mkdir()
    except FileExistsError:
        wait_for(folder / "said.txt")
    else:
        done = torchrun(str(PROGRAMS / f"{program}.py"), ranks=ranks, folder=folder, FOUND=str(folder), **more)
        (folder / "said.txt").write_text(done.stdout + done.stderr)
    found = [folder / f"rank{rank}.json" for rank in range(ranks)]
    assert all(file.exists() for file in found), (folder / "said.txt").read_text()[-4000:]
    return [json.loads(file.read_text()) for file in found]


def wait_for(file: Path) -> None:
    """Until another worker has written it."""
    end = time.monotonic() + LIMIT
    while not file.exists():
        assert time.monotonic() < end, f"{file} was not written"
        time.sleep(0.1)


def value_of(found: list[dict[str, Any]], check: str) -> list[Any]:
    """What a check gave on every rank."""
    for rank, results in enumerate(found):
        assert "error" not in results[check], f"rank {rank}: {results[check]['error']}"
    return [results[check]["value"] for results in found]


def run_checks(checks: Mapping[str, Check], rank: int, folder: str) -> None:
    """Run every check on this rank, and write what it gave or how it failed: of one that failed, no rank goes on to the next."""
    found: dict[str, Any] = {}
    for name, check in checks.items():
        try:
            found[name] = {"value": check()}
        except BaseException:
            found[name] = {"error": traceback.format_exc()}
        Path(folder, f"rank{rank}.json").write_text(json.dumps(found))
