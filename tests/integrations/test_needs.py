"""Extras that are missing or too old are told in one sentence, and nothing imports a framework unasked."""

from __future__ import annotations

import os
import re
import sysconfig
from pathlib import Path

import pytest
from commands import python

import lrfinder
from lrfinder.integrations.needs import numbers, require

ROOT = Path(__file__).parents[2]
SITE = Path(lrfinder.__file__).parents[1]  # the checkout, or where the wheel was installed
FRAMEWORKS = ["accelerate", "ignite", "lightning", "transformers"]
SENTENCE = 'lrfinder.integrations.{extra} needs {package}: pip install "lrfinder[{extra}]"'


def without(package: str, module: str, folder: Path) -> Path:
    """All that is installed but one package."""
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.name != module and not path.name.startswith(f"{package.replace('-', '_')}-"):
            (folder / path.name).symlink_to(path)
    return folder


@pytest.mark.parametrize(
    ("extra", "package"),
    [("transformers", "transformers"), ("accelerate", "accelerate"), ("lightning", "lightning"), ("ignite", "pytorch-ignite")],
)
def test_a_missing_extra_is_told_in_one_sentence(extra: str, package: str, tmp_path: Path):
    all_but_one = without(package, extra, tmp_path)
    there = str(all_but_one) if (all_but_one / "lrfinder").exists() else f"{SITE}{os.pathsep}{all_but_one}"  # from the wheel, or a checkout
    done = python("-S", "-c", f"import lrfinder.integrations.{extra}", folder=tmp_path, PYTHONPATH=there)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: {SENTENCE.format(extra=extra, package=package)}"


def test_an_old_framework_is_told_in_one_sentence():
    require("click", "extra", "8.0")
    with pytest.raises(
        ImportError, match=r"^lrfinder.integrations.extra needs click 99.1 or newer, but 8\S* is installed: pip install -U "
    ):
        require("click", "extra", "99.1")


def test_versions_are_compared_as_numbers():
    assert numbers("2.13.0+cpu") == (2, 13, 0) > numbers("2.9.1")
    assert numbers("5.0") < numbers("5.0.1.dev0") == (5, 0, 1)


def test_the_extras_of_the_project_are_what_the_adapters_ask_for():
    project = (ROOT / "pyproject.toml").read_text()
    for extra in FRAMEWORKS:
        (line,) = re.findall(rf"^{extra} = \[(.*)\]$", project, flags=re.MULTILINE)
        source = (SITE / "lrfinder" / "integrations" / f"{extra}.py").read_text()
        asked = re.findall(r'^require\("([\w-]+)", "(\w+)", "([\d.]+)"\)$', source, flags=re.MULTILINE)
        assert {f'"{package}>={least}"' for package, _, least in asked} == set(line.split(", "))
        assert {name for _, name, _ in asked} == {extra}


def test_both_packages_import_no_framework(tmp_path: Path):
    code = f"""
import sys, hessian, lrfinder
for package in (hessian, lrfinder):
    for name in package.__all__:
        getattr(package, name)
print(sorted(set({FRAMEWORKS!r}) & set(sys.modules)))
"""
    done = python("-c", code, folder=tmp_path)
    assert (done.stdout, done.stderr) == ("[]\n", "")
