"""``benchmarks/scale.py``: its formulas against sums by hand, its fit against costs that are known, its page against its records."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
PAGE = ROOT / "docs" / "scale.md"
RECORDS = BENCHMARKS / "results" / "scale.json"

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="a source distribution has no benchmarks")


@pytest.fixture(autouse=True)
def benchmarks(monkeypatch):
    """Its modules can be imported, and are forgotten again: another benchmark may have some of the same name."""
    known = set(sys.modules)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    yield
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]


def test_a_ring_of_four_sends_three_quarters_of_a_tensor_to_gather_it_and_twice_that_to_sum_it():
    from scaling.volume import Ring, fsdp, padded

    shapes = [[6, 2], [5]]  # padded to 8 rows of 2, and 8 rows: 24 numbers of 4 bytes
    assert padded(shapes, 4) == 24
    found = {halves: fsdp(Ring(4, halves), [shapes])["step"].payload for halves in (False, True)}
    assert found == {False: 96 * 0.75 * (2 + 2), True: 96 * 0.75 * (2 + 1)}


def test_the_fit_finds_the_cost_of_a_byte_and_of_a_message():
    from scaling.cost import fit_time

    def figures(ranks, parameters, sent, messages, crowd):
        seconds = 1e-8 * parameters * crowd + 1e-9 * sent + 5e-5 * messages
        subjects = {"step": {"seconds": seconds, "payload": sent - 288 * messages, "messages": messages}}
        return {"kind": "DDP", "ranks": ranks, "parameters": parameters, "subjects": subjects}

    rows = [figures(1, 10**5, 0, 0, 1), figures(1, 10**6, 0, 0, 1)]
    rows += [figures(2, 10**5, 4e5, 10, 1), figures(2, 10**6, 4e6, 20, 1), figures(4, 10**5, 6e5, 60, 2), figures(4, 10**6, 6e6, 30, 2)]
    found = fit_time(rows, cores=2)
    assert found["per_byte"] == pytest.approx(1e-9)
    assert found["per_message"] == pytest.approx(5e-5)
    assert found["residual"] < 1e-9


def test_the_page_says_what_the_records_say(tmp_path):
    from scaling import tables

    page = tmp_path / "scale.md"
    shutil.copy(PAGE, page)
    tables.write(page, json.loads(RECORDS.read_text()))
    assert page.read_text() == PAGE.read_text()
