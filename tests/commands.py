"""Commands as a user types them: real processes, with one thread each, whose words and exit status are what is tested."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

LRFINDER = str(Path(sysconfig.get_path("scripts"), "lrfinder"))  # the entry point that installing the package made
LIMIT = 300  # seconds until a process that hangs is given up; says nothing about speed


def environment(**more: str) -> dict[str, str]:
    """This process's environment, without what would change the output."""
    mine = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST", "COV", "CLICOLOR", "FORCE_COLOR"))}
    return {**mine, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "NO_COLOR": "1", **more}


def call(command: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    return subprocess.run(
        command, cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL
    )


def lrfinder(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """``lrfinder ...``"""
    return call([LRFINDER, *arguments], folder)


def python(*arguments: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """``python ...``"""
    return call([sys.executable, *arguments], folder, **more)
