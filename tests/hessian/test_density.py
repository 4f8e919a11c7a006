"""The spectral density against exact spectra, widened by the same Gaussian."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from oracles import dense_hessian, symmetric
from scipy.integrate import trapezoid
from torch import nn

from hessian import HessianOperator, Problem, spectral_density
from hessian.operators.base import DenseOperator
from hessian.results import SpectralDensity

SIZE = 200
RNG = np.random.default_rng(0)
SPECTRA = {
    "bulk and outliers": np.concatenate([RNG.normal(0, 0.3, SIZE - 5), [3.0, 4.0, 6.0, 10.0, -2.0]]),
    "uniform": np.linspace(-1, 2, SIZE),
    "semicircle": 2 * np.cos(np.pi * (np.arange(SIZE) + 0.5) / SIZE),
    "half of it zero": np.concatenate([np.zeros(SIZE // 2), np.linspace(0.1, 5, SIZE // 2)]),
}


def operator(spectrum):
    return DenseOperator(symmetric(spectrum))


def exact_density(spectrum, grid, sigma):
    """The histogram, every eigenvalue widened: independent of quadrature."""
    heights = [math.exp(-(((x - entry) / sigma) ** 2) / 2) for x in grid for entry in spectrum]
    return np.reshape(heights, (len(grid), len(spectrum))).sum(1) / (sigma * math.sqrt(2 * math.pi) * len(spectrum))


def integral(density):
    return float(trapezoid(density.density, density.grid))


def assert_within_errors(density, spectrum):
    """Within four standard errors at 95 % of the points. The tails, where nothing lies, may be off by rounding."""
    exact = exact_density(spectrum, density.grid, density.sigma)
    deviation = np.abs(density.density - exact)
    assert np.mean(deviation <= 4 * density.error + 1e-6 * exact.max()) >= 0.95


@pytest.mark.parametrize("seed", [0, 100, 200])
@pytest.mark.parametrize("spectrum", SPECTRA.values(), ids=SPECTRA)
def test_the_density_is_the_widened_histogram(spectrum, seed):
    # The share of one direction follows chi-square, which is skewed: standard errors of few probes would be too small too often.
    found = spectral_density(operator(spectrum), num_probes=64, steps=80, width=0.03, seed=seed, grid=200)
    assert_within_errors(found, spectrum)
    assert integral(found) == pytest.approx(1, abs=2e-4)  # four sigma beyond either end: 6e-5 lies outside
    assert found.hvps <= 64 * 80
    assert (found.size, found.num_probes, found.steps) == (SIZE, 64, 80)
    spread = max(spectrum) - min(spectrum)
    assert found.largest == pytest.approx(max(spectrum), abs=1e-3 * spread)
    assert found.smallest == pytest.approx(min(spectrum), abs=1e-3 * spread)
    assert found.sigma == pytest.approx(0.03 * (found.largest - found.smallest))
    assert found.grid[0] < found.smallest < found.largest < found.grid[-1]


def test_as_many_steps_as_dimensions_leave_the_probes_alone_as_error():
    spectrum = np.array([-2.0, -0.5, 0.0, 1.0, 3.0])
    found = spectral_density(operator(spectrum), num_probes=400, steps=50, width=0.1)
    assert found.hvps == 400 * 5
    assert_within_errors(found, spectrum)
    assert found.density == pytest.approx(exact_density(spectrum, found.grid, found.sigma), abs=0.05)


def test_errors_shrink_with_the_root_of_the_probes():
    op = operator(SPECTRA["bulk and outliers"])
    few = [spectral_density(op, num_probes=4, steps=20, width=0.05, seed=1000 * seed).error for seed in range(16)]
    many = spectral_density(op, num_probes=64, steps=20, width=0.05).error
    # Root mean squares: unbiased, and known to some 20 % each, for the weights follow chi-squared laws.
    assert np.linalg.norm(many) == pytest.approx(np.sqrt(np.mean([np.sum(error**2) for error in few])) / 4, rel=0.35)


def test_errors_are_the_scatter_of_the_density():
    op = operator(SPECTRA["uniform"])
    runs = [spectral_density(op, num_probes=6, steps=40, seed=100 * seed, grid=50) for seed in range(40)]
    inner = slice(10, 40)
    scatter = np.std([run.density[inner] for run in runs], axis=0)
    stated = np.sqrt(np.mean([run.error[inner] ** 2 for run in runs], axis=0))
    assert np.median(stated / scatter) == pytest.approx(1, abs=0.2)  # a spread over forty runs is known to 11 %


def test_a_single_probe_has_no_error():
    found = spectral_density(operator(SPECTRA["uniform"]), num_probes=1)
    assert np.isnan(found.error).all()
    assert integral(found) == pytest.approx(1, abs=2e-4)


def test_a_net_against_its_dense_hessian():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 3)).double()
    batch = (torch.randn(30, 6, dtype=torch.float64), torch.randint(3, (30,)))
    problem = Problem(model, None, [batch], nn.CrossEntropyLoss())
    spectrum = torch.linalg.eigvalsh(dense_hessian(problem, batch)).numpy()
    # An outlier's weight follows a chi-squared law, so that a dozen probes understate its error now and then: forty do not.
    found = spectral_density(HessianOperator(problem, [batch]), num_probes=40, steps=50)
    assert_within_errors(found, spectrum)
    assert found.largest == pytest.approx(spectrum[-1], rel=1e-6)


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-6])
def test_a_spectrum_of_one_value_is_a_narrow_peak(value):
    found = spectral_density(operator([value] * 6), num_probes=2)
    assert found.hvps == 2
    assert integral(found) == pytest.approx(1, abs=2e-4)
    assert found.grid[found.density.argmax()] == pytest.approx(value, abs=found.sigma)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_the_density_scales_with_the_operator(scale):
    spectrum = SPECTRA["bulk and outliers"]
    plain, scaled = (spectral_density(operator(factor * spectrum), num_probes=2, steps=20) for factor in (1.0, scale))
    assert scaled.grid == pytest.approx(scale * plain.grid, rel=1e-6, abs=1e-9 * scale)
    assert scaled.density == pytest.approx(plain.density / scale, rel=1e-4, abs=1e-9 / scale)


@pytest.mark.parametrize(
    ("name", "value"), [("num_probes", 0), ("steps", 0), ("width", 0.0), ("width", float("nan")), ("grid", 1), ("steps", 2.5)]
)
def test_a_wrong_argument_is_refused_before_any_product(name, value):
    op = operator([1.0, 2.0])
    with pytest.raises((ValueError, TypeError), match=f"^{name}="):
        spectral_density(op, **{name: value})
    assert op.products == 0


# Files and pictures -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def density():
    return spectral_density(operator(SPECTRA["bulk and outliers"]), num_probes=6)


def test_json_reads_back_as_the_same(density, tmp_path):
    assert SpectralDensity.load(density.save(tmp_path / "density.json")) == density
    single = spectral_density(operator([1.0, 2.0]), num_probes=1)  # NaN errors
    path = single.save(tmp_path / "single.json")
    assert SpectralDensity.load(path) == single
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_csv_has_every_point(density, tmp_path):
    with Path(density.save(tmp_path / "density.csv")).open() as file:
        header, *rows = csv.reader(file)
    assert header == ["eigenvalue", "density", "error"]
    columns = np.array(rows, dtype=float).T
    for column, values in zip(columns, (density.grid, density.density, density.error), strict=True):
        assert np.array_equal(column, values)


@pytest.mark.parametrize("probes", [1, 6])
def test_the_plot_shows_the_curve_its_band_and_the_largest(probes, tmp_path):
    found = spectral_density(operator(SPECTRA["bulk and outliers"]), num_probes=probes)
    figure = found.plot(tmp_path / "density.png")
    assert (tmp_path / "density.png").read_bytes()[:4] == b"\x89PNG"
    (ax,) = figure.axes
    assert ax.get_yscale() == "log"
    curve = ax.lines[0]
    assert np.array_equal(curve.get_xdata(), found.grid)
    assert np.array_equal(curve.get_ydata(), found.density)
    assert ax.lines[1].get_xdata()[0] == found.largest
    low, high = ax.get_ylim()
    assert low < found.density.max() < high
    assert len(ax.collections) == (1 if probes > 1 else 0)  # no band where there is no error


def test_the_legend_hides_nothing_of_the_curve(density):
    figure = density.plot()
    FigureCanvasAgg(figure).draw()
    (ax,) = figure.axes
    box = ax.get_legend().get_window_extent()
    points = ax.transData.transform(np.column_stack([density.grid, density.density.clip(ax.get_ylim()[0])]))
    assert not any(box.contains(x, y) for x, y in points)
    assert not box.overlaps(ax.get_window_extent())
    for text in [*ax.get_legend().get_texts(), ax.title, ax.xaxis.label, ax.yaxis.label]:
        assert figure.bbox.contains(*text.get_window_extent().min)
        assert figure.bbox.contains(*text.get_window_extent().max)


def test_the_plot_goes_onto_the_callers_axes(density):
    ax = Figure().add_subplot()
    assert density.plot(ax=ax) is ax.figure
    assert len(ax.lines) == 2


def test_low_memory_is_refused_as_values_that_come_twice_would_count_twice():
    with pytest.raises(ValueError, match="memory='low' is unknown; choose 'full' or 'offload'"):
        spectral_density(operator([1.0, 2.0]), memory="low")
