"""The tables of ``docs/scale.md``, between its markers: what was measured, what was fitted, and what is extrapolated, each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from page import replaced, table

from scaling.cost import SUBJECTS, Assumed, extrapolate, fit_memory, fit_time
from scaling.single import TINY, peak_vectors

WRITER = "scale"


def write(path: Path, results: dict[str, Any]) -> None:
    """Put every table where its markers stand; the prose stays."""
    fitted = fit_time(results["ranks"], results["setting"]["cores"])
    extrapolated = extrapolate(Assumed(), results["operations"], results["draw"])
    text = path.read_text()
    for part, content in (
        ("ranks", ranks_table(results["ranks"])),
        ("volume", volume_table(results["ranks"])),
        ("single", single_table(results["single"])),
        ("peak", peak_table(results["single"])),
        ("fit", fit_table(fitted)),
        ("assumed", assumed_table(results)),
        ("extrapolated", extrapolated_table(extrapolated)),
        ("extrapolated memory", memory_table(extrapolated)),
        ("setting", setting_line(results["setting"], fitted)),
    ):
        text = replaced(text, part, content, WRITER)
    path.write_text(text)


def ranks_table(found: list[dict[str, Any]]) -> str:
    """Everything over the bare step of the same number of ranks."""
    head = ["", "parameters", "ranks", "bare step", *(f"{name} / step" for name in SUBJECTS[1:])]
    order = sorted(found, key=lambda one: (one["kind"], one["parameters"], one["ranks"]))
    return table(head, map(ranks_row, order))


def ranks_row(one: dict[str, Any]) -> list[str]:
    seconds = {name: figures["seconds"] for name, figures in one["subjects"].items()}
    ratios = (f"{seconds[name] / seconds['step']:.2f}" for name in SUBJECTS[1:])
    return [one["kind"], count(one["parameters"]), str(one["ranks"]), milliseconds(seconds["step"]), *ratios]


def volume_table(found: list[dict[str, Any]]) -> str:
    """What the sockets of the first rank sent in the largest model, beside the formula."""
    largest = max(one["parameters"] for one in found)
    shown = sorted((one for one in found if one["parameters"] == largest and one["ranks"] > 1), key=lambda one: (one["kind"], one["ranks"]))
    head = ["sent by a rank, MB", *(f"{one['kind']}, {one['ranks']} ranks" for one in shown)]
    return table(head, ([name, *(volume_cell(one["subjects"][name]) for one in shown)] for name in SUBJECTS))


def volume_cell(figures: dict[str, float]) -> str:
    """Megabytes, and by how much the formula is off."""
    expected = figures["payload"] + 288 * figures["messages"]
    return f"{figures['sent'] / 1e6:.3f} ({figures['sent'] - expected:+.0f} bytes)"


def single_table(found: dict[str, Any]) -> str:
    """Time over that of a gradient, or of a bare step."""
    sizes = [size for size in found["step"] if size != str(TINY)]
    head = ["time", *(f"{count(int(size))}" for size in sizes)]
    bases = {"step": None, "sweep step": "step", "gradient": None}
    rows = [[row_name(name, bases.get(name, "gradient")), *(time_cell(found, name, size, bases) for size in sizes)] for name in found]
    return table(head, rows)


def row_name(name: str, base: str | None) -> str:
    return name if base is None else f"{name} / {base}"


def time_cell(found: dict[str, Any], name: str, size: str, bases: dict[str, str | None]) -> str:
    if size not in found[name]:
        return "not measured"
    base, seconds = bases.get(name, "gradient"), found[name][size]["seconds"]
    return milliseconds(seconds) if base is None else f"{seconds / found[base][size]['seconds']:.2f}"


def peak_table(found: dict[str, Any]) -> str:
    """Peaks of the larger models, and of the model of the cost, which is linear in the number of parameters."""
    sizes = [size for size in found["step"] if int(size) >= 10**6]
    fitted = fit_memory(found)
    head = ["peak, vectors", *(count(int(size)) for size in sizes), "of the model, residual at the last but one"]
    rows = (
        [
            name,
            *(peak_cell(found[name], size) for size in sizes),
            f"{fitted[name]['vectors']:.1f}, {fitted[name]['residual']:+.0%}",
        ]
        for name in found
    )
    return table(head, rows)


def peak_cell(rows: dict[str, Any], size: str) -> str:
    return f"{peak_vectors(rows, size):.1f}" if size in rows else "not measured"


def fit_table(fitted: dict[str, Any]) -> str:
    """Measured and modelled time of the larger models."""
    largest = max(row["parameters"] for row in fitted["rows"])
    head = [f"{count(largest)} parameters", "ranks", "", "measured", "model", "residual"]
    rows = (
        [row["kind"], str(row["ranks"]), row["subject"], *(milliseconds(row[name]) for name in ("seconds", "modelled")), residual(row)]
        for row in fitted["rows"]
        if row["parameters"] == largest
    )
    return table(head, rows)


def residual(row: dict[str, Any]) -> str:
    return f"{row['modelled'] / row['seconds'] - 1:+.0%}"


def assumed_table(results: dict[str, Any]) -> str:
    """Inputs of the extrapolation."""
    inputs = Assumed()
    return table(
        ["input", "value", "where from"],
        [
            ["parameters, in float32", f"{inputs.parameters:.2g} in {inputs.blocks} blocks, each with `fully_shard`", "assumed"],
            ["GPUs", str(inputs.ranks), "assumed"],
            ["tokens on each in a batch", str(inputs.tokens), "assumed"],
            ["a GPU computes, of a product in float32", f"{inputs.flops / 1e12:g} TFLOP/s", "assumed"],
            ["a GPU computes, of a step in bfloat16", f"{inputs.training_flops / 1e12:g} TFLOP/s", "assumed"],
            ["a GPU sends", f"{inputs.bandwidth / 1e9:g} GB/s", "assumed: 400 Gbit/s, 80 % used"],
            ["a message between GPUs", f"{inputs.latency * 1e6:g} µs", "assumed"],
            ["a message between hosts", f"{inputs.host_latency * 1e6:g} µs", "assumed"],
            ["memory of a GPU", f"{inputs.memory / 1e9:g} GB", "assumed"],
            ["Lanczos steps", str(inputs.steps), "assumed"],
            ["operations of a gradient", "6 x parameters x tokens", "formula"],
            ["operations of an exact product", f"{results['operations']:.2f} gradients", "counted, eight linear layers"],
            ["random numbers of a start vector", f"{1e9 * results['draw']:.1f} ns each", "measured, one thread"],
            ["bytes and messages", "formulas above, with a reduce-scatter that costs half an all-reduce", "formula"],
        ],
    )


def extrapolated_table(found: dict[str, Any]) -> str:
    """Seconds of every subject, by what takes them."""
    head = ["extrapolated, not run", "sent by a GPU", "computing", "sending", "messages", "together"]
    rows = (
        [
            name,
            f"{one['payload'] / 1e9:.0f} GB",
            *(f"{one['seconds'][part]:.2f} s" for part in ("compute", "bytes", "messages")),
            f"{one['total']:.1f} s",
        ]
        for name, one in found["subjects"].items()
    )
    return table(head, rows)


def memory_table(found: dict[str, Any]) -> str:
    """Bytes on every GPU."""
    most = found["assumed"]["memory"]
    rows = ([name, f"{size / 1e9:.2f} GB{'' if size < most else ': does not fit'}"] for name, size in found["memory"].items())
    return table(["extrapolated, not run", "on every GPU"], rows)


def setting_line(found: dict[str, Any], fitted: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    speed = f"{1e-9 / fitted['per_byte']:.2g} GB/s" if fitted["per_byte"] else "no cost of bytes"
    return (
        f"Fitted: {speed}, {1e6 * fitted['per_message']:.0f} µs a message; root mean square of the residuals {fitted['residual']:.0%} "
        f"over {len(fitted['rows'])} figures. {found['cores']} CPU cores, load of others {found['load']:g}, "
        f"one thread a rank, gloo over the loopback. "
        f"Python {found['python']}, {versions}."
    )


def milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.0f} ms" if seconds >= 0.1 else f"{1e3 * seconds:.3g} ms"


def count(parameters: int) -> str:
    """As a power of ten where it is about one."""
    exponent = len(str(parameters)) - 1
    lead = round(parameters / 10**exponent, 1)
    return f"10^{exponent}" if lead == 1 else f"{lead:g} x 10^{exponent}"
