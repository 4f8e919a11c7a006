"""Who imports whom, read off the sources; each check is itself checked on a source that breaks it."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from commands import python

import lrfinder

SITE = Path(lrfinder.__file__).parents[1]  # the checkout, or where the wheel was installed
SOURCES = {
    ".".join(path.relative_to(SITE).with_suffix("").parts).removesuffix(".__init__"): path.read_text()
    for package in ("hessian", "lrfinder")
    for path in sorted((SITE / package).rglob("*.py"))
}
NUMPY_ONLY = [
    f"lrfinder.{name}"
    for name in (
        *("basin", "budget", "combine", "comparison", "constants", "curve", "describe", "describe_curve", "doubts"),
        *("explain", "explain_factors", "horizon", "ramp", "report", "results", "rules", "smoothing", "writing"),
    )
]
FRAMEWORKS = ("accelerate", "ignite", "lightning", "transformers")
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
PRINTING = {"print", "click.echo", "click.secho", "sys.stdout.write", "sys.stderr.write", "warnings.warn", "pprint"}

Check = Callable[[str, ast.Module], Iterator[str]]


def imports(tree: ast.AST) -> Iterator[str]:
    """Every name imported at run time, at the top or inside a function: ``torch.nn`` for both ways to write it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports would escape these checks"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and dotted(node.test).endswith("TYPE_CHECKING"):
            yield from imports(ast.Module(node.orelse, type_ignores=[]))
        else:
            yield from imports(node)


def is_import_of(package: str, name: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def dotted(node: ast.AST) -> str:
    """``a.b.c`` as text, as far as it is plain names."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(tree: ast.Module) -> Iterator[str]:
    """What is called, where it has a name."""
    yield from (dotted(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call))


# The checks: each yields what is wrong ----------------------------------------------------------------------------------------------


def the_lower_layer_does_not_know_the_upper(module: str, tree: ast.Module) -> Iterator[str]:
    if is_import_of("hessian", module):
        yield from (name for name in imports(tree) if is_import_of("lrfinder", name))


def only_plotting_imports_matplotlib(module: str, tree: ast.Module) -> Iterator[str]:
    if module not in ("hessian.plotting", "hessian.reports.svg", "lrfinder.plotting", "lrfinder.plotting_schedule"):
        yield from (name for name in imports(tree) if is_import_of("matplotlib", name))


def nobody_imports_pyplot(module: str, tree: ast.Module) -> Iterator[str]:
    yield from (name for name in imports(tree) if is_import_of("matplotlib.pyplot", name) or is_import_of("pylab", name))


def only_the_command_line_prints(module: str, tree: ast.Module) -> Iterator[str]:
    if not is_import_of("lrfinder.cli", module):
        yield from (name for name in imports(tree) if is_import_of("click", name) or is_import_of("pprint", name))
        yield from (name for name in calls(tree) if name in PRINTING)


def only_progress_imports_tqdm(module: str, tree: ast.Module) -> Iterator[str]:
    if module != "lrfinder.progress":
        yield from (name for name in imports(tree) if is_import_of("tqdm", name))


def only_its_adapter_imports_a_framework(module: str, tree: ast.Module) -> Iterator[str]:
    for name in imports(tree):
        framework = name.split(".")[0]
        if framework in FRAMEWORKS and not module.startswith(f"lrfinder.integrations.{framework}"):
            yield name


def only_adapters_import_adapters(module: str, tree: ast.Module) -> Iterator[str]:
    if not is_import_of("lrfinder.integrations", module):
        yield from (name for name in imports(tree) if is_import_of("lrfinder.integrations", name))


def only_three_modules_know_other_processes(module: str, tree: ast.Module) -> Iterator[str]:
    yield from (name for name in imports(tree) if is_import_of("torch.multiprocessing", name))
    if module not in ("hessian.distributed", "hessian.sharded", "hessian.wire"):
        yield from (name for name in imports(tree) if is_import_of("torch.distributed", name))
        yield from (dotted(node) for node in ast.walk(tree) if dotted(node) == "torch.distributed")


def numbers_need_no_torch(module: str, tree: ast.Module) -> Iterator[str]:
    if module in NUMPY_ONLY:
        yield from (name for name in imports(tree) if is_import_of("torch", name))


def nothing_runs_what_it_reads(module: str, tree: ast.Module) -> Iterator[str]:
    yield from (name for name in imports(tree) if name.split(".")[0] in UNSAFE_MODULES)
    yield from (name for name in calls(tree) if name in UNSAFE_CALLS or name.endswith((".torch.load", "builtins.eval", "builtins.exec")))
    yield from (dotted(node) for node in ast.walk(tree) if dotted(node) == "torch.load")


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        the_lower_layer_does_not_know_the_upper,
        only_plotting_imports_matplotlib,
        nobody_imports_pyplot,
        only_the_command_line_prints,
        only_progress_imports_tqdm,
        only_its_adapter_imports_a_framework,
        only_adapters_import_adapters,
        only_three_modules_know_other_processes,
        numbers_need_no_torch,
        nothing_runs_what_it_reads,
    )
}
SPOILED = [
    ("the_lower_layer_does_not_know_the_upper", "hessian.problem", "import lrfinder"),
    ("the_lower_layer_does_not_know_the_upper", "hessian.solvers.power", "def f():\n    from lrfinder.ramp import Ramp"),
    ("the_lower_layer_does_not_know_the_upper", "hessian", "from lrfinder import find_lr as f"),
    ("only_plotting_imports_matplotlib", "lrfinder.results", "from matplotlib.axes import Axes"),
    ("only_plotting_imports_matplotlib", "hessian.results", "def plot():\n    import matplotlib as m"),
    ("only_plotting_imports_matplotlib", "hessian.reports.to_html", "def f():\n    from matplotlib.figure import Figure"),
    ("only_plotting_imports_matplotlib", "lrfinder.cli", "if TYPE_CHECKING:\n    pass\nelse:\n    import matplotlib"),
    ("nobody_imports_pyplot", "lrfinder.plotting", "import matplotlib.pyplot as plt"),
    ("nobody_imports_pyplot", "hessian.plotting", "from matplotlib import pyplot"),
    ("only_the_command_line_prints", "lrfinder.sweep", "def f():\n    print('step')"),
    ("only_the_command_line_prints", "hessian.stable", "import sys\nsys.stderr.write('slow')"),
    ("only_the_command_line_prints", "lrfinder.targets", "import click\nclick.echo('x')"),
    ("only_the_command_line_prints", "lrfinder.find", "import warnings\nwarnings.warn('x')"),
    ("only_progress_imports_tqdm", "lrfinder.sweep", "from tqdm.auto import tqdm"),
    ("only_its_adapter_imports_a_framework", "lrfinder.find", "import transformers"),
    ("only_its_adapter_imports_a_framework", "lrfinder.integrations.transformers", "from accelerate import Accelerator"),
    ("only_its_adapter_imports_a_framework", "lrfinder.integrations.accelerate", "def f():\n    import lightning.pytorch as pl"),
    ("only_adapters_import_adapters", "lrfinder.find", "def f():\n    from lrfinder.integrations import transformers"),
    ("only_its_adapter_imports_a_framework", "lrfinder.find", "import lightning.pytorch as pl"),
    ("only_its_adapter_imports_a_framework", "lrfinder.integrations.ignite", "def f():\n    from lightning.pytorch import Trainer"),
    ("only_its_adapter_imports_a_framework", "lrfinder.integrations.lightning", "from ignite.engine import Engine"),
    ("only_adapters_import_adapters", "lrfinder", "from lrfinder.integrations import needs"),
    ("only_adapters_import_adapters", "lrfinder.find", "def f():\n    import lrfinder.integrations.lightning"),
    ("only_three_modules_know_other_processes", "hessian.problem", "import torch.distributed as dist"),
    ("only_three_modules_know_other_processes", "hessian.problem", "from torch import distributed"),
    ("only_three_modules_know_other_processes", "lrfinder.find", "import torch\ntorch.distributed.all_reduce(x)"),
    ("only_three_modules_know_other_processes", "hessian.distributed", "import torch.multiprocessing"),
    ("numbers_need_no_torch", "lrfinder.rules", "import torch"),
    ("numbers_need_no_torch", "lrfinder.basin", "import torch"),
    ("numbers_need_no_torch", "lrfinder.budget", "def f():\n    from torch import Tensor"),
    ("nothing_runs_what_it_reads", "hessian.codec", "import pickle"),
    ("nothing_runs_what_it_reads", "lrfinder.results", "from pickle import loads"),
    ("nothing_runs_what_it_reads", "lrfinder.targets", "eval(text)"),
    ("nothing_runs_what_it_reads", "lrfinder.demo.data", "exec(source, {})"),
    ("nothing_runs_what_it_reads", "hessian.results", "import torch\ntorch.load(path)"),
]
HARMLESS = """
from typing import TYPE_CHECKING
import typing

if TYPE_CHECKING:
    import matplotlib, torch, lrfinder, tqdm
if typing.TYPE_CHECKING:
    from matplotlib.axes import Axes
model.eval()
self.print()
"""


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_layers(check: Check):
    wrong = {module: list(check(module, ast.parse(source))) for module, source in SOURCES.items()}
    assert {module: found for module, found in wrong.items() if found} == {}


@pytest.mark.parametrize(("check", "module", "line"), SPOILED)
def test_every_check_sees_what_it_forbids(check: str, module: str, line: str):
    assert module in SOURCES
    assert list(CHECKS[check](module, ast.parse(f"{SOURCES[module]}\n{line}\n")))


def test_no_check_goes_without_a_spoiled_source():
    assert {check for check, _, _ in SPOILED} == set(CHECKS)


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_what_only_a_type_checker_imports_is_allowed(check: Check):
    assert list(check("hessian.results", ast.parse(HARMLESS))) == []
    assert list(check("lrfinder.results", ast.parse(HARMLESS))) == []


def test_the_sources_are_the_packages():
    assert {"hessian", "lrfinder", "lrfinder.cli", "hessian.solvers.lanczos", "lrfinder.demo.models"} <= set(SOURCES)
    assert set(NUMPY_ONLY) <= set(SOURCES)


def torch_loaders(modules: list[str], folder: Path) -> list[str]:
    """Which of these modules, imported in turn by a fresh process, is the first to load torch."""
    code = f"""
import importlib, sys
for module in {modules!r}:
    importlib.import_module(module)
    if "torch" in sys.modules:
        sys.exit(module)
"""
    done = python("-c", code, folder=folder)
    assert done.stdout == ""
    return done.stderr.split()


def test_modules_of_numbers_load_no_torch_on_any_way(tmp_path: Path):
    assert torch_loaders(NUMPY_ONLY, tmp_path) == []


def test_the_check_of_loaded_modules_can_fail(tmp_path: Path):
    assert torch_loaders(["lrfinder.ramp", "lrfinder.sweep", "lrfinder.rules"], tmp_path) == ["lrfinder.sweep"]
