"""Ranks that cannot tell what happened to them: the others end within their patience, with all put back and the rank named."""

from __future__ import annotations

from pathlib import Path

import pytest
from launch import found_by, value_of
from versions import GLOO_GIVES_UP

PATIENCE = 8.0

pytestmark = pytest.mark.skipif(not GLOO_GIVES_UP, reason="with this torch a rank did not come back from its backward pass")


@pytest.fixture(scope="session")
def found(common: Path):
    return found_by("faults", 2, common, LRFINDER_TIMEOUT=str(PATIENCE))


@pytest.mark.parametrize(
    ("check", "error"),
    [
        ("in_a_backward_pass", "a bad gradient"),
        ("in_a_sharded_forward_pass", "a bad layer"),
        ("in_a_step_before_a_forward_pass_that_waits", "a bad step"),
    ],
)
def test_an_error_inside_the_trainings_own_collectives_reaches_the_others(found, check, error):
    first, second = value_of(found, check)
    assert first["said"].startswith(f"PeerError: rank 1 raised ZeroDivisionError: {error};")
    assert second["said"] == f"ZeroDivisionError: {error}"
    assert first["back"]
    assert second["back"]
    assert first["seconds"] < 3 * PATIENCE


def test_a_rank_that_stands_still_is_named(found):
    first, second = value_of(found, "standing_still")
    assert first["said"].startswith("PeerError: rank 1 did not answer: killed, or without progress for 8 s (LRFINDER_TIMEOUT sets")
    assert second["said"].startswith("PeerError: ")
    assert first["back"]
    assert second["back"]
    assert first["seconds"] < 3 * PATIENCE


def test_a_rank_that_does_not_come_is_not_waited_for_and_the_next_time_counts_anew(found):
    first, second = value_of(found, "not_coming")
    assert first["first"]["said"].startswith("PeerError: not all of the ranks 0, 1 began the measurement within 8 s;")
    assert first["first"]["back"]
    assert first["then"] == second["then"]


def test_a_rank_that_is_killed_is_named_by_the_survivor(found):
    said = found[0]["killed"]["value"]
    assert "killed" not in found[1]
    assert said["said"].startswith("PeerError: rank 1 did not answer: killed, or without progress")
    assert said["back"]
    assert said["seconds"] < 3 * PATIENCE


def test_the_trainings_own_timeouts_are_back(found):
    timeouts = [value["timeouts"] for check in ("in_a_backward_pass", "standing_still") for value in value_of(found, check)]
    assert timeouts == [["0:30:00"]] * 4
