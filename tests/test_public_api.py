"""What users may rely on: names, signatures, docstrings. A change here is a change for them."""

from __future__ import annotations

import ast
import builtins
import enum
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

import hessian
import lrfinder
from hessian import errors

ROOT = Path(__file__).parents[1]
SITE = Path(lrfinder.__file__).parents[1]  # the checkout, or where the wheel was installed
NAMES = {
    "hessian": [
        "CriticalLR",
        "CurvatureDoubt",
        "CurvatureError",
        "CurvatureOperator",
        "EigenResult",
        "Estimate",
        "FiniteDifferenceOperator",
        "GGNOperator",
        "HessianOperator",
        "PreconditionedOperator",
        "Problem",
        "SharpnessMonitor",
        "SharpnessReading",
        "SharpnessRecord",
        "SpectralDensity",
        "StabilityLimit",
        "StableLR",
        "batch_sharpness",
        "critical_lr",
        "descent_limit",
        "effective_rank",
        "frobenius_norm",
        "lanczos",
        "noise_limit",
        "online_sharpness",
        "power_iteration",
        "preserve",
        "secant_lr",
        "sharpness_by_parameter",
        "smith_topin_lr",
        "spectral_density",
        "stability_limit",
        "stable_lr",
        "trace",
        "update_direction",
    ],
    "lrfinder": [
        "Comparison",
        "Doubt",
        "LRCurve",
        "LRSweep",
        "NoSuggestionError",
        "Suggestion",
        "clr",
        "compare",
        "constant",
        "find_lr",
        "linear",
        "load",
        "one_cycle",
        "plot",
        "plot_schedule",
        "range_test",
        "rule",
        "sgdr",
        "suggest_lr",
    ],
}
SIGNATURES = {
    lrfinder.find_lr: """model, optimizer, data, criterion=None, *, loss_fn=None, val_data=None, total_steps=None, schedule='onecycle',
        budget='standard', start_lr=1e-07, end_lr=100.0, curvature=True, seed=0, progress=None, device=None,
        accumulate=1, autocast=None, scaler=None, clip_norm=None, clip_value=None, step_fn=None, keep=(), snapshot='device'""",
    lrfinder.range_test: """model, optimizer, data, criterion=None, *, loss_fn=None, val_data=None, metric=None, per_group=False,
        start_lr=1e-07, end_lr=10.0, num_iter=100, mode='exponential', stop_factor=4.0, smoothing=0.04, seed=0, progress=None, device=None,
        accumulate=1, autocast=None, scaler=None, clip_norm=None, clip_value=None, step_fn=None, keep=(), snapshot='device'""",
    lrfinder.LRSweep: """model, optimizer, *, start_lr=1e-07, end_lr=10.0, num_iter=100, mode='exponential', stop_factor=4.0,
        smoothing=0.04, seed=0, progress=None, keep=(), snapshot='device'""",
    lrfinder.LRSweep.__call__: "self, data=None",
    lrfinder.LRSweep.report: "self, loss, *, skipped=False",
    lrfinder.suggest_lr: "curve, limit=None, *, probes=None, total_steps=None, schedule='onecycle', no_limit=None",
    lrfinder.plot: "*results, path=None, ax=None",
    lrfinder.plot_schedule: "*schedules, steps, path=None, ax=None",
    lrfinder.clr: """optimizer, max_lr, total_steps, *, base_lr=None, step_size=None, epoch_steps=None, mode='triangular', gamma=None,
        warmup_steps=0, warmup_lr=None""",
    lrfinder.sgdr: "optimizer, max_lr, total_steps, *, T_0=None, T_mult=2, cycles=3, warmup_steps=0, warmup_lr=None",
    lrfinder.linear: "optimizer, max_lr, total_steps, *, warmup_steps=0, warmup_lr=None",
    lrfinder.constant: "optimizer, max_lr, total_steps, *, warmup_steps=0, warmup_lr=None",
    lrfinder.one_cycle: """optimizer, max_lr, total_steps, *, start_lr=None, final_div=10000.0, three_phase=False, anneal='cos',
        pct_start=None, momentum=(0.85, 0.95)""",
    lrfinder.compare: "*results, names=None",
    lrfinder.load: "path",
    lrfinder.rule: "name, *, breaks=()",
    hessian.stable_lr: """model, optimizer, data, criterion=None, *, loss_fn=None, num_batches=4, tol=0.01, seed=0, max_hvps=60,
        method='auto', along='hessian', graph_memory=1073741824, memory='full', device=None,
        accumulate=1, autocast=None, scaler=None, clip_norm=None, clip_value=None, keep=(), snapshot='device'""",
    hessian.lanczos: """op, k=1, *, which='largest', tol=0.01, stop='guarded', max_iter=60, seed=0, start=None, memory='full',
        probability=0.99""",
    hessian.spectral_density: "op, *, num_probes=8, steps=60, width=0.02, seed=0, grid=512, memory='full'",
    hessian.trace: "op, *, num_products=30, seed=0",
    hessian.frobenius_norm: "op, *, num_products=10, seed=0",
    hessian.effective_rank: "op, *, num_products=60, seed=0",
    hessian.batch_sharpness: "op",
    hessian.descent_limit: "op, gradient, update",
    hessian.online_sharpness: "gradient_at, size, like, *, steps=200, seed=0",
    hessian.secant_lr: "gradient, ahead, step",
    hessian.sharpness_by_parameter: "names, parameters, direction",
    hessian.smith_topin_lr: "iterates, lr",
    hessian.update_direction: "problem, batch",
    hessian.noise_limit: "curvature, variance, *, momentum=0.0, averaged=False",
    hessian.critical_lr: "problem, batches, update, *, start=0.001, resolution=0.0625",
    hessian.power_iteration: "op, *, tol=0.01, max_iter=1000, seed=0",
    hessian.preserve: "*objects, keep=(), snapshot='device'",
    hessian.Problem: """model, optimizer, data, criterion=None, *, loss_fn=None, device=None,
        accumulate=1, autocast=None, scaler=None, clip_norm=None, clip_value=None, step_fn=None""",
    hessian.HessianOperator: "problem, batches, *, parameters=None, graph_memory=1073741824",
    hessian.GGNOperator: "problem, batches, *, parameters=None, graph_memory=1073741824",
    hessian.FiniteDifferenceOperator: "problem, batches, *, parameters=None",
    hessian.PreconditionedOperator: "operator, scale, inner=None, outer=None",
    hessian.stability_limit: "*optimizers",
    hessian.SharpnessMonitor: """model, optimizer, criterion=None, *, loss_fn=None, every=100, along='hessian', method='auto', seed=0,
        keep=(), snapshot='device'""",
    hessian.SharpnessMonitor.step: "self, batch",
    hessian.SharpnessMonitor.plot: "self, path=None, ax=None",
    hessian.SharpnessMonitor.save: "self, path",
    hessian.SharpnessMonitor.log_to: "self, writer",
    hessian.StableLR.plot: "self, path=None, ax=None",
    hessian.StableLR.explain: "self",
    hessian.StableLR.log_to: "self, writer, step=0, *, run=None",
    lrfinder.LRCurve.explain: "self",
    lrfinder.LRCurve.log_to: "self, writer, step=0, *, run=None",
    lrfinder.Suggestion.explain: "self",
    lrfinder.Suggestion.log_to: "self, writer, step=0, *, run=None",
    lrfinder.Comparison.plot: "self, path=None, ax=None",
    lrfinder.LRCurve.suggest: "self, rule='steepest'",
    lrfinder.LRCurve.clr_range: "self",
    lrfinder.LRCurve.plot: "self, path=None, ax=None",
    lrfinder.LRCurve.save: "self, path",
    lrfinder.Suggestion.plot: "self, path=None, ax=None",
    lrfinder.Suggestion.apply: "self, optimizer",
    lrfinder.Suggestion.clr: "self, optimizer, total_steps=None, **settings",
    lrfinder.Suggestion.sgdr: "self, optimizer, total_steps=None, **settings",
    lrfinder.Suggestion.linear: "self, optimizer, total_steps=None, **settings",
    lrfinder.Suggestion.constant: "self, optimizer, total_steps=None, **settings",
    lrfinder.Suggestion.one_cycle: "self, optimizer, total_steps=None, **settings",
    lrfinder.Suggestion.save: "self, path",
    lrfinder.Suggestion.to_html: "self",
    lrfinder.Suggestion.report: "self",
}
PUBLIC = {f"{package}.{name}": getattr(importlib.import_module(package), name) for package in NAMES for name in NAMES[package]}
FUNCTIONS = {name: value for name, value in PUBLIC.items() if inspect.isfunction(value)}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
METHODS = {
    f"{name}.{attribute}": value
    for name, cls in CLASSES.items()
    for attribute, value in inspect.getmembers(cls)
    if not attribute.startswith("_") and (inspect.isfunction(value) or isinstance(value, property))
}
PACKAGES = pytest.mark.parametrize("package", NAMES)


# Names --------------------------------------------------------------------------------------------------------------------------


@PACKAGES
def test_the_names_are_these_and_no_others(package: str):
    module = importlib.import_module(package)
    assert sorted(dir(module)) == sorted(module.__all__) == sorted(NAMES[package])


@PACKAGES
def test_what_type_checkers_see_is_what_there_is(package: str):
    tree = ast.parse((SITE / package / "__init__.pyi").read_text())
    imported = {alias.asname: (node.module, alias.name) for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    (listed,) = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    assert sorted(imported) == sorted(listed) == sorted(NAMES[package])
    for name, (module, original) in imported.items():
        defined = getattr(importlib.import_module(f"{package}.{module}"), original)
        assert defined is getattr(importlib.import_module(package), name)


@PACKAGES
def test_an_unknown_name_is_an_attribute_error(package: str):
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = importlib.import_module(package).no_such_name


@PACKAGES
def test_every_name_is_in_the_docs_under_its_package(package: str):
    sections = re.split(r"^## ", (ROOT / "docs" / "api.md").read_text(), flags=re.MULTILINE)
    (section,) = [section for section in sections if section.startswith(f"`{package}`")]
    rows = re.findall(r"^\| `(\w+)[(`]", section, flags=re.MULTILINE)
    assert sorted(rows) == sorted(NAMES[package])


# Signatures -----------------------------------------------------------------------------------------------------------------------


def plain(signature: inspect.Signature) -> str:
    """A signature without its types."""
    kept = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    return str(inspect.Signature(kept))


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_signatures(function: Any):
    assert plain(inspect.signature(function)) == f"({' '.join(SIGNATURES[function].split())})"


def test_every_public_function_has_its_signature_locked():
    assert set(FUNCTIONS.values()) <= set(SIGNATURES)


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_every_parameter_and_result_has_a_type(function: Any):
    function = function.__init__ if inspect.isclass(function) else inspect.unwrap(function)
    named = set(inspect.signature(function).parameters) - {"self"}
    assert named | {"return"} <= set(function.__annotations__)


def test_the_four_arguments_come_first_everywhere_and_then_only_keywords():
    for function in (lrfinder.find_lr, lrfinder.range_test, hessian.stable_lr, hessian.Problem):
        parameters = list(inspect.signature(function).parameters.values())
        assert [parameter.name for parameter in parameters[:4]] == ["model", "optimizer", "data", "criterion"]
        assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in parameters[4:])


# Docstrings -----------------------------------------------------------------------------------------------------------------------


def section(text: str, title: str) -> list[str]:
    """Names that a section such as ``Args:`` explains, in order."""
    found = re.search(rf"^{title}:\n((?:[ ]+.*\n?|\n)+)", text, flags=re.MULTILINE)
    if found is None:
        return []
    return [name for line in re.findall(r"^    (\w[\w, ]*): ", found[1], flags=re.MULTILINE) for name in line.split(", ")]


def parameters_of(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_explain_every_parameter(name: str):
    assert section(inspect.getdoc(FUNCTIONS[name]) or "", "Args") == parameters_of(FUNCTIONS[name])


@pytest.mark.parametrize("name", CLASSES)
def test_classes_explain_every_field_or_parameter(name: str):
    cls, text = CLASSES[name], inspect.getdoc(CLASSES[name]) or ""
    assert text[0].isupper() or text.startswith("`")
    if is_dataclass(cls):
        assert section(text, "Attributes") == [field.name for field in fields(cls)]
    elif issubclass(cls, enum.Enum):
        assert all(member.value.endswith(".") for member in cls)
    elif not issubclass(cls, Exception):
        explained = section(text, "Args") + section(text, "Attributes")
        assert explained[: len(parameters_of(cls))] == parameters_of(cls)


@pytest.mark.parametrize("name", METHODS)
def test_methods_have_a_docstring_that_ends_its_first_sentence(name: str):
    text = inspect.getdoc(METHODS[name]) or ""
    assert re.match(r"\S.*?[.:](\s|$)", text, flags=re.DOTALL)


def refusals(function: Any) -> Iterator[str]:
    """What a function raises itself, or by checking its arguments first."""
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield ast.unparse(node.exc.func)
        if isinstance(node, ast.Call) and re.match(r"check_|positive_|whole_number|split_budget|find_rule", ast.unparse(node.func)):
            yield "BadArgument"


def accepted_names(error: str) -> set[str]:
    """Names under which a docstring may promise this error: its own and its bases'."""
    cls = getattr(errors, error, None) or getattr(builtins, error)
    return {base.__name__ for base in cls.__mro__} - {"object", "BaseException", "Exception"}


RAISING = {
    name: function
    for name, function in {**FUNCTIONS, **METHODS, **CLASSES}.items()
    if not isinstance(function, property) and not (inspect.isclass(function) and "__init__" not in vars(function))
    if not (is_dataclass(function) or name.endswith("Error"))
}


@pytest.mark.parametrize("name", RAISING)
def test_what_is_raised_is_promised(name: str):
    function = RAISING[name]
    body = function.__init__ if inspect.isclass(function) else inspect.unwrap(function)
    promised = set(section(inspect.getdoc(function) or "", "Raises"))
    unpromised = [error for error in refusals(body) if not promised & accepted_names(error)]
    assert unpromised == []


def test_the_check_of_promises_sees_raises():
    def careless(value: float) -> None:
        if value < 0:
            raise ValueError("negative")

    assert list(refusals(careless)) == ["ValueError"]
    assert accepted_names("BadArgument") == {"BadArgument", "ValueError"}
    assert section("Sum.\n\nRaises:\n    BadArgument, OSError: If it\n        goes: wrong.\n    TypeError: Else.", "Raises") == [
        "BadArgument",
        "OSError",
        "TypeError",
    ]
