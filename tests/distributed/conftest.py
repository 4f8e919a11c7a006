"""Each program is started once for all tests that look at what it found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

collect_ignore = ["programs"]  # they run under torchrun only
pytest.register_assert_rewrite("launch")


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
