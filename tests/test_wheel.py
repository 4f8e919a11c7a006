"""The wheel: what it holds, what it needs, how large it is, and that it works by itself."""

from __future__ import annotations

import ast
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import python

import lrfinder

ROOT = Path(__file__).parents[1]
PACKAGES = ("hessian", "lrfinder")
LARGEST = 300_000  # bytes

pytestmark = pytest.mark.skipif(not (ROOT / "hessian").exists(), reason="the sources are not here: these tests run from the wheel itself")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both kinds of package, by their endings."""
    folder = tmp_path_factory.mktemp("dist")
    done = python("-m", "hatchling", "build", "-d", str(folder), folder=ROOT)
    assert done.returncode == 0, done.stderr
    return {path.suffix: path for path in folder.iterdir()}


@pytest.fixture(scope="module")
def wheel(built: dict[str, Path]) -> Iterator[zipfile.ZipFile]:
    assert built[".whl"].name == f"lrfinder-{lrfinder.__version__}-py3-none-any.whl"
    with zipfile.ZipFile(built[".whl"]) as archive:
        yield archive


def sources() -> set[str]:
    """Every file of the packages that belongs into the wheel."""
    kinds = {".py", ".pyi", ".typed", ".css"}
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file()]
    return {path.relative_to(ROOT).as_posix() for path in files if path.suffix in kinds}


def test_the_wheel_holds_both_packages_and_nothing_else(wheel: zipfile.ZipFile):
    held = set(wheel.namelist())
    about = {name for name in held if name.startswith(f"lrfinder-{lrfinder.__version__}.dist-info/")}
    assert held - about == sources()
    assert {Path(name).name for name in about} == {"METADATA", "WHEEL", "RECORD", "entry_points.txt"}


def test_the_wheel_holds_what_type_checkers_and_the_demo_need(wheel: zipfile.ZipFile):
    for package in PACKAGES:
        assert {f"{package}/__init__.py", f"{package}/__init__.pyi", f"{package}/py.typed"} <= set(wheel.namelist())
    assert {f"lrfinder/demo/{name}.py" for name in ("__init__", "data", "models", "recipes")} <= set(wheel.namelist())
    assert not [name for name in wheel.namelist() if "test" in name.split("/")[0]]


def test_the_wheel_makes_the_command(wheel: zipfile.ZipFile):
    (name,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert wheel.read(name).decode().split() == ["[console_scripts]", "lrfinder", "=", "lrfinder.cli:main"]


def test_the_wheel_knows_its_version_and_what_it_needs(wheel: zipfile.ZipFile):
    (name,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
    metadata = wheel.read(name).decode()
    assert f"\nVersion: {lrfinder.__version__}\n" in metadata
    needed = re.findall(r"^Requires-Dist: ([\w-]+)[^;\n]*$", metadata, flags=re.MULTILINE)
    assert sorted(name.replace("-", "_") for name in needed) == needed_packages()
    assert {"demo", "lightning", "ignite"} <= set(re.findall(r"^Provides-Extra: ([\w-]+)$", metadata, flags=re.MULTILINE))


def needed_packages() -> list[str]:
    """What the two packages import at run time, by the names on PyPI, without those of the extras."""
    names = {
        name.split(".")[0]
        for path in sources()
        if path.endswith(".py") and path != "lrfinder/demo/data.py" and not path.startswith("lrfinder/integrations/")
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [getattr(node, "module", None) or ""])
    }
    known = {"torch", "numpy", "scipy", "matplotlib", "click", "tqdm", "lazy_loader"}  # and tomli, where the standard library lacks tomllib
    foreign = names - known - {"tomllib", "tomli", "hessian", "lrfinder", "", *sys.stdlib_module_names}
    assert not foreign, f"imported but unknown here: {foreign}"
    return sorted(names & known)


def test_the_version_is_the_projects():
    text = (ROOT / "pyproject.toml").read_text()
    assert re.findall(r'^version = "(.+)"$', text, flags=re.MULTILINE) == [lrfinder.__version__]


def test_the_wheel_is_small(built: dict[str, Path]):
    assert built[".whl"].stat().st_size < LARGEST


def test_the_index_would_take_both_packages(built: dict[str, Path], tmp_path: Path):
    done = python("-m", "twine", "check", "--strict", *map(str, built.values()), folder=tmp_path)
    assert (done.returncode, done.stdout.count("PASSED")) == (0, 2), done.stdout


def test_the_wheel_works_alone_in_an_empty_folder(built: dict[str, Path], tmp_path: Path):
    site, here = tmp_path / "site", tmp_path / "here"
    done = python("-m", "pip", "install", "--no-deps", "--no-index", "--target", str(site), str(built[".whl"]), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    here.mkdir()
    asked = python("-c", "import lrfinder, hessian; print(lrfinder.__file__); print(hessian.__file__)", folder=here, PYTHONPATH=str(site))
    assert [Path(line).parents[1] for line in asked.stdout.splitlines()] == [site, site]
    done = python("-m", "lrfinder", "demo", "--budget", "quick", "-o", "lr.json", "-o", "lr.png", folder=here, PYTHONPATH=str(site))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("suggested lr ")
    assert {path.name for path in here.iterdir()} == {"lr.json", "lr.png"}


def test_the_tests_pass_from_the_wheel(built: dict[str, Path], tmp_path: Path):
    """A part of them; ``make test-wheel`` runs all."""
    with zipfile.ZipFile(built[".whl"]) as archive:
        archive.extractall(tmp_path / "site")
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    chosen = ["tests/hessian/test_noise.py", "tests/lrfinder/test_rules.py"]
    done = python("-m", "pytest", "-p", "no:cacheprovider", "-n", "0", *chosen, folder=tmp_path, PYTHONPATH=str(tmp_path / "site"))
    assert done.returncode == 0, done.stdout
