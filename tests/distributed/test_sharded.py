"""FSDP2, tensor parallelism, and meshes of two dimensions: the answer of one process from shards that come back bit for bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from launch import found_by, value_of
from versions import SHARDS_ON_CPU

CLOSE = 1e-10
KINDS = [("fsdp", 2), ("tensor", 2), ("hybrid", 4), ("both", 4)]
TWO = KINDS[:2]

new_torch = pytest.mark.skipif(not SHARDS_ON_CPU, reason="this torch derives nothing in a sharded tensor")


@pytest.fixture
def values(common: Path, kind: str, ranks: int):
    """What a check gave on every rank for this kind of division."""

    if not SHARDS_ON_CPU and kind != "tensor":
        pytest.skip("this torch cannot train under fully_shard on a CPU")

    def read(check: str) -> list[Any]:
        found = [value[kind] for value in value_of(found_by("fsdp", ranks, common, LRFINDER_TIMEOUT="30"), check)]
        assert not [value["failed"] for value in found if "failed" in value]
        return found

    return read


@new_torch
@pytest.mark.parametrize(("kind", "ranks"), KINDS)
def test_eigenvalues_are_those_of_one_process(values, kind, ranks):
    found = values("eigenvalues")
    assert all(value["off"] < CLOSE for value in found)
    assert len({value["json"] for value in found}) == 1
    assert all(value["shapes"][0] < 84 for value in found)  # no rank holds a whole vector


@new_torch
@pytest.mark.parametrize(("kind", "ranks"), TWO)
def test_gauss_newton_sums_density_and_batch_sharpness_are_those_of_one_process(values, kind, ranks):
    found = values("estimates")
    assert all(off < CLOSE for value in found for off in value["off"].values()), found[0]["off"]
    assert found[0]["ours"] == found[1]["ours"]
    assert found[0]["ours"]["trace"] != pytest.approx(
        found[0]["ours"]["exact trace"], rel=1e-6
    )  # it is an estimate, alike because its signs are
    for value in found:
        assert value["by differences"] < 1e-6
        assert value["refused"].startswith("BadType: batch noise needs a HessianOperator, but got a FiniteDifferenceOperator")


def test_second_derivatives_of_a_dtensor_are_never_wrong_without_a_word(common):
    for value in value_of(found_by("fsdp", 2, common, LRFINDER_TIMEOUT="30"), "eigenvalues"):
        found = value["tensor"]
        assert found["off"] < CLOSE if SHARDS_ON_CPU else "cannot differentiate a model under tensor parallelism twice" in found["failed"]
    for value in value_of(found_by("fsdp", 2, common, LRFINDER_TIMEOUT="30"), "limits"):
        for limit in value["tensor"].values():
            assert limit["off"] < 1e-6  # central differences
            assert limit["method"] == ("autograd" if SHARDS_ON_CPU else "finite_difference")


@new_torch
def test_exact_operators_refuse_what_tensor_parallelism_divides_too(common):
    for value in value_of(found_by("fsdp", 4, common, LRFINDER_TIMEOUT="30"), "eigenvalues"):
        assert value["both"]["refused"].startswith("BadArgument: tensor parallelism divides the parameters too, so UnshardedGGNOperator")


@pytest.mark.parametrize(("kind", "ranks"), TWO)
def test_vectors_start_alike_and_dot_products_count_every_number_once(values, kind, ranks):
    for value in values("differences"):
        assert value["start"] < CLOSE
        assert value["product"] < 1e-8  # central differences
        assert value["dot"] < 1e-8
        assert value["local"] > 1e-5  # what item() of a partial sum would have given


@new_torch
def test_what_would_be_wrong_without_a_word_is_refused_or_doubted(common):
    for rank, value in enumerate(value_of(found_by("fsdp", 2, common, LRFINDER_TIMEOUT="30"), "traps")):
        assert all(said.startswith("BadArgument: the model is under fully_shard") for said in value["told"])
        assert "LOW_PRECISION" in value["half"]
        assert value["loss"] == [3.0, 1.0 + rank]  # item() of a partial sum is this rank's part


@new_torch
@pytest.mark.parametrize(("kind", "ranks"), KINDS)
def test_stable_lrs_are_those_of_one_process(values, kind, ranks):
    for value in values("limits"):
        for limit in value.values():
            assert limit["off"] < CLOSE
            assert limit["shares off"] < CLOSE
            assert limit["method"] == ("finite_difference" if kind == "both" else "autograd")
            assert ("SHARDED" in json.loads(limit["json"])["doubts"]) == (kind == "both")
    assert len({json.dumps(value) for value in values("limits")}) == 1


@pytest.mark.parametrize(("kind", "ranks"), KINDS)
def test_sweeps_are_those_of_one_process_and_the_shards_come_back(values, kind, ranks):
    found = values("sweeps")
    assert all(value["off"] < CLOSE and value["back"] for value in found)
    assert len({value["json"] for value in found}) == 1


@pytest.mark.parametrize(("kind", "ranks"), TWO)
def test_suggestions_are_one_and_training_goes_on_as_without_us(values, kind, ranks):
    found = values("suggestion")
    assert all(value["back"] and value["goes on"] for value in found)
    assert len({value["json"] for value in found}) == 1
    assert json.loads(found[0]["json"])["limit"] is not None


@pytest.mark.parametrize(("kind", "ranks"), KINDS)
def test_an_error_or_an_interrupt_on_one_rank_ends_all(values, kind, ranks):
    for rank, value in enumerate(values("errors")):
        assert value["back"]
        first, second = value["said"]
        assert first.startswith("ZeroDivisionError" if rank == 1 else "PeerError: rank 1 raised ZeroDivisionError: a bad sample;")
        assert second.startswith("KeyboardInterrupt" if rank == 1 else "PeerError: rank 1 was interrupted;")
