"""Writing a file so that an old one is never lost."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], content: bytes) -> Path:
    """Write beside the target, then rename over it: a full disk or a crash leaves the old file whole."""
    target = Path(path)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.chmod(name, 0o666 & ~current_umask())  # mkstemp makes private files; a result is an ordinary one
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    return target


def current_umask() -> int:
    """The process's umask, which can only be read by setting it."""
    umask = os.umask(0)
    os.umask(umask)
    return umask
