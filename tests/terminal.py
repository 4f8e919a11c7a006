"""A real pseudo-terminal, and what a person would see on it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands import LIMIT, environment

COLUMNS = 80


def screen(text: str, columns: int = COLUMNS) -> list[str]:
    """The lines that are left on the screen: letters are written over others, and go on in the next line where one is full."""
    lines, row, column = [""], 0, 0
    for letter in re.sub(r"\x1b\[[\d;]*m", "", text):
        if letter == "\r":
            column = 0
        elif letter == "\n":
            row, column = row + 1, 0
        else:
            assert letter.isprintable(), f"{letter!r} is not known to this terminal"
            if column == columns:
                row, column = row + 1, 0
            while len(lines) <= row:
                lines.append("")
            lines[row] = lines[row][:column].ljust(column) + letter + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def frames(text: str) -> list[str]:
    """Every state of the line that is written over."""
    return [frame for frame in re.split(r"[\r\n]+", text) if frame.strip()]


def open_terminal(columns: int) -> tuple[int, int]:
    """Both ends of a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    return ours, theirs


class Watcher:
    """Reads what is written to a terminal, as it comes; ``text`` is all of it, once the terminal is closed."""

    def __init__(self, end: int) -> None:
        self.end = end
        self.seen = b""
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self.end, 65536)
            except OSError:  # the other end is closed
                return
            if not chunk:
                return
            self.seen += chunk

    @property
    def text(self) -> str:
        self._thread.join(LIMIT)
        assert not self._thread.is_alive(), "read it after the with block"
        return self.seen.decode()


@contextmanager
def stderr_on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = COLUMNS) -> Iterator[Watcher]:
    """This process's stderr is a terminal inside."""
    ours, theirs = open_terminal(columns)
    watcher = Watcher(ours)
    with os.fdopen(theirs, "w") as stream:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stderr", stream)
            yield watcher
    assert watcher.text is not None
    os.close(ours)


def run_on_terminal(command: list[str], folder: Path, *, interrupt_at: str = "", **more: str) -> tuple[int, str]:
    """Exit status and all output of a command whose three streams are one terminal; Ctrl-C is typed when a text is seen."""
    ours, theirs = open_terminal(COLUMNS)
    settings = {"NO_COLOR": "", "TERM": "xterm", **more}
    process = subprocess.Popen(
        command, cwd=folder, env=environment(**settings), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, preexec_fn=own
    )
    os.close(theirs)
    seen, until = b"", time.monotonic() + LIMIT
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                chunk = os.read(ours, 65536)
            except OSError:
                break
            seen += chunk
            if interrupt_at and interrupt_at.encode() in seen:
                os.write(ours, b"\x03")
                interrupt_at = ""
    try:
        return process.wait(10), seen.decode()
    finally:
        process.kill()
        os.close(ours)


def own() -> None:
    """The terminal of the streams becomes the one whose Ctrl-C counts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
