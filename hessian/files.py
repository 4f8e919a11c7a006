"""Files are written so that an old one is never lost, and may be anything where they are read, also a page with JSON in it."""

from __future__ import annotations

import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path

from hessian.errors import BadArgument

LARGEST = 64 * 2**20  # bytes that are read: a sweep of a million steps, and no more than any machine can hold


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write beside the target, then rename over it: a full disk, Ctrl-C or a crash leaves the old file whole.

    An existing file keeps its permissions; of a link, what it points to is replaced.

    Raises:
        OSError: If it cannot be written, of the class that the system's error has.
        BadArgument: If no file can have that name.
    """
    try:
        store(os.path.realpath(path), content)
    except OSError as error:
        folder = os.path.dirname(os.fspath(path)) or os.curdir
        advice = "what was there before is whole; free some space, or write to another place."
        if not os.path.lexists(folder):
            advice = f"there is no folder {folder!r}; make it, or write to another place."
        message = f"{os.fspath(path)!r} could not be written ({error.strerror or error}): {advice}"
        raise (OSError(error.errno, message) if error.errno else OSError(message)) from error
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise BadArgument(f"{os.fspath(path)!r} cannot be the name of a file ({error}); choose another.") from error
    return Path(path)


def store(target: str, content: bytes) -> None:
    """Replace the target, which is no link. A device or a pipe is written to: replaced, it would be gone."""
    old = os.stat(target) if os.path.lexists(target) else None
    if old is not None and not stat.S_ISREG(old.st_mode):
        with open(target, "wb") as stream:  # a folder says so here
            stream.write(content)
        return
    beside = os.path.join(os.path.dirname(target), f".{uuid.uuid4().hex}.tmp")  # short: the target's name may be as long as names get
    try:
        write_new(beside, content, old)
        os.replace(beside, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def write_new(path: str, content: bytes, old: os.stat_result | None) -> None:
    """A new file, on the disk before anyone relies on it; never more open than the old one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags, 0o666 if old is None else 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    if old is not None:
        os.chmod(path, stat.S_IMODE(old.st_mode))


def read_limited(path: str | os.PathLike[str]) -> bytes:
    """The content of a file; a ``ValueError`` if it is too large."""
    with open(path, "rb") as stream:
        content = stream.read(LARGEST + 1)
    if len(content) > LARGEST:  # the size is not asked for: /dev/zero says 0
        size = max(os.stat(path).st_size, len(content))
        raise ValueError(f"it holds {size:,} bytes, and at most {LARGEST:,} are read")
    return content


START = '<script type="application/json" id="lrfinder-result">'  # data for a browser, which runs nothing of it
END = "</script>"
MARK = b"\xef\xbb\xbf"  # of byte order, as editors write it
ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&"}  # they occur within JSON strings only, where this means the same


def embed(data: str) -> str:
    """JSON text in an element."""
    return f"{START}\n{data.translate(ESCAPES)}\n{END}"


def extract(content: bytes) -> bytes:
    """The JSON in a page; other content as it is; a ``ValueError`` if a page does not hold one result."""
    if content.removeprefix(MARK).lstrip()[:9].lower() != b"<!doctype":
        return content
    _, found, rest = content.partition(START.encode())
    data, ended, after = rest.partition(END.encode())
    if not found or not ended or START.encode() in after:
        raise ValueError("it is a page that does not hold one result")
    return data
