"""An extra that is missing or too old is named in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import python

from lrfinder.integrations.needs import numbers, require

WITHOUT = """
import importlib.metadata, sys
real = importlib.metadata.version
def version(name):
    if name == sys.argv[2]:
        raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
importlib.metadata.version = version
sys.modules[sys.argv[3]] = None  # as if it were not there
import lrfinder
__import__(sys.argv[1])
"""


@pytest.mark.parametrize(("extra", "package"), [("lightning", "lightning"), ("ignite", "pytorch-ignite")])
def test_a_missing_extra_is_one_sentence_and_only_on_import_of_its_adapter(extra: str, package: str, tmp_path: Path):
    done = python("-c", WITHOUT, f"lrfinder.integrations.{extra}", package, extra, folder=tmp_path)
    last = done.stderr.strip().splitlines()[-1]
    assert last == f'ImportError: lrfinder.integrations.{extra} needs {package}: pip install "lrfinder[{extra}]"'


def test_a_version_that_is_too_old_is_one_sentence():
    with pytest.raises(ImportError, match=r"integrations\.torch needs torch 99\.1 or newer, but 2.* is installed: pip install -U"):
        require("torch", "torch", "99.1")
    require("torch", "torch", "2.6")


def test_versions_compare_by_their_numbers():
    assert numbers("2.13.0+cpu") == (2, 13, 0)
    assert numbers("2.6.1rc2") == (2, 6, 1)
    assert numbers("2.10") > numbers("2.9.5")
