"""``DistributedDataParallel`` on two ranks: one answer, that of one process; nothing left behind; every failure told to all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from launch import found_by, value_of
from versions import SHARDS_ON_CPU

CLOSE = 1e-10
ENDED = "; the measurement ended on every rank, and all is as before"


@pytest.fixture(scope="session")
def found(common: Path) -> list[dict[str, Any]]:
    return found_by("ddp", 2, common, LRFINDER_TIMEOUT="30")


def alike(values: list[Any]) -> Any:
    """What every rank has, bit for bit."""
    assert all(value == values[0] for value in values)
    return values[0]


def test_products_are_those_of_one_process_on_all_batches_and_no_ranks_own(found):
    for products in value_of(found, "products"):
        assert len(products) == 6
        for kind, (off, own) in products.items():
            assert off < CLOSE, kind
            assert own > 1e-3, kind  # autograd through the wrapper is local, without a word


def test_eigenvalues_and_batch_noise_are_those_of_one_process_with_uneven_ranks_too(found):
    values = alike(value_of(found, "eigenvalues"))
    assert values["off"] < CLOSE
    assert values["noise off"] < CLOSE


def test_sums_over_the_spectrum_and_its_density_are_those_of_one_process(found):
    for kind, value in alike(
        [{kind: {**value, "own": 1} for kind, value in each.items()} for each in value_of(found, "estimates")]
    ).items():
        assert value["off"] < CLOSE, kind
    assert all(value["own"] > 1e-3 for each in value_of(found, "estimates") for value in each.values())


@pytest.mark.skipif(not SHARDS_ON_CPU, reason="this torch cannot train under fully_shard on a CPU")
def test_every_rank_sends_what_the_formulas_of_the_benchmark_say(found):
    for value in value_of(found, "volumes"):
        if not value:
            pytest.skip("a source distribution has no benchmarks, and only Linux counts what sockets send")
        assert len(value["sent"]) == 10
        for name, figures in value["sent"].items():
            most = figures["payload"] + 288 * figures["messages"]  # gloo's headers
            assert most - 288 * figures["tiny"] - 1100 < figures["sent"] < most + 1100, name
            assert figures["payload"] > 4 * 4500, name
        assert value["twice"].startswith("SystemExit: twice as much: sent ")


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_stable_lrs_are_those_of_one_process_preconditioner_and_noise_included(found, optimizer):
    limit = alike([value[optimizer] for value in value_of(found, "limits")])
    assert limit["off"] < CLOSE
    assert limit["batch"] == 32
    assert set(json.loads(limit["json"])["by_parameter"]) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert json.loads(limit["json"])["model"] == "Sequential"


def test_critical_lrs_are_those_of_one_process(found):
    ours, right = alike(value_of(found, "critical"))
    assert ours == pytest.approx(right, rel=CLOSE)


def test_sweeps_are_those_of_one_process_with_the_same_global_batch(found):
    assert alike(value_of(found, "sweeps"))["even"]["off"] < CLOSE


def test_scores_are_means_over_the_samples_of_all_ranks_and_the_same_on_all(found):
    values = value_of(found, "held_out")
    alike([value["json"] for value in values])
    samples = [pair for value in values for pair in value["own"]]
    mean = sum(count * loss for count, loss in samples) / sum(count for count, _ in samples)
    assert values[0]["first"] == pytest.approx(mean, rel=1e-3)  # after one step at the lowest LR


def test_uneven_ranks_record_the_mean_over_all_samples_the_same_on_all(found):
    uneven = alike(value_of(found, "sweeps"))["uneven"]
    assert uneven["start off"] < CLOSE
    assert uneven["off"] > 1e-3  # DistributedDataParallel itself trains on the plain mean of the ranks' means


def test_batch_norm_sees_its_ranks_part_and_all_ranks_agree(found):
    assert alike(value_of(found, "sweeps"))["even norm"]["start off"] > 1e-4


def test_loops_of_the_users_own_sweep_as_in_one_process_and_errors_reach_all(found):
    first, second = value_of(found, "own_loops")
    for value in (first, second):
        assert value["said"] == "none"
        assert value["off"] < CLOSE
        assert value["back"] == [True, True]
    assert first["json"] == second["json"]
    assert first["told"] == f"PeerError: rank 1 raised ZeroDivisionError: a bad sample{ENDED}"
    assert second["told"] == "ZeroDivisionError: a bad sample"


def test_ranks_meet_once_for_every_forward_pass(found):
    """A ``GradScaler`` asks whether the step was made, too."""
    sweeps = alike(value_of(found, "met"))
    each = {"own loop": 1, "range test": 1, "windows": 2, "scaler": 2}
    assert {name: sweep["a step"] for name, sweep in sweeps.items() if "away" not in name} == each
    for name in ("own loop", "range test", "windows"):
        assert sweeps[f"{name}, away"] == sweeps[name]


def test_losses_on_a_device_give_the_same_curve_where_ranks_differ_and_steps_are_skipped(found):
    ours, right = alike(value_of(found, "mixed"))
    assert ours == right
    away, here = alike(value_of(found, "skips"))
    assert away == here
    assert len(here["lrs"]) == len(json.loads(here["json"])["losses"]) + 4 == 24


def test_batches_that_are_read_early_do_not_change_the_order_of_random_numbers(found):
    assert alike(value_of(found, "a_loader_that_draws"))["off"] < CLOSE


def test_windows_are_as_long_as_the_shortest_rank_has_them(found):
    assert len(json.loads(alike(value_of(found, "accumulation")))["losses"]) == 12


@pytest.mark.parametrize("options", ["plain", "gradient_as_bucket_view", "find_unused_parameters", "static_graph"])
def test_suggestions_are_one_and_nothing_is_left_changed(found, options):
    values = [value[options] for value in value_of(found, "suggestion")]
    assert alike(values)["back"]
    assert alike(values)["goes on"]
    assert json.loads(values[0]["json"])["lr"] > 0


def test_each_rank_scores_its_share_of_the_samples_and_counts_are_those_of_all(found):
    value = alike(value_of(found, "probes"))
    assert (value["scored"], value["samples"], value["batch"]) == (32, 256, 32)


def test_data_that_end_on_one_rank_end_the_sweep_on_all(found):
    curve = json.loads(alike(value_of(found, "ended")))
    assert curve["status"] == "data_ended"
    assert len(curve["losses"]) == 14  # the first batch was for the check before anything moves


def test_a_loss_that_is_no_number_on_one_rank_ends_the_sweep_on_all(found):
    curve = json.loads(alike(value_of(found, "nans")))
    assert curve["status"] == "nonfinite"
    assert curve["losses"][-1] == "nan"
    assert len(curve["losses"]) == 9


@pytest.mark.parametrize("place", ["loss 1", "loss 7", "loss 60", "data 1", "data 7", "step 1", "step 7"])
def test_an_error_on_one_rank_is_raised_there_and_told_to_the_others(found, place):
    first, second = (value[place] for value in value_of(found, "errors"))
    assert first["said"] == f"PeerError: rank 1 raised ZeroDivisionError: a bad sample{ENDED}"
    assert second["said"] == "ZeroDivisionError: a bad sample"
    assert first["back"]
    assert second["back"]
    assert first["weights"] == second["weights"]  # and they went on training together


@pytest.mark.parametrize("signal", ["ctrl-c", "sigterm"])
def test_an_interrupt_on_one_rank_ends_all(found, signal):
    first, second = (value[signal] for value in value_of(found, "interrupts"))
    assert first["said"] == f"PeerError: rank 1 was interrupted{ENDED}"
    assert second["said"] == "KeyboardInterrupt: "
    assert first["back"]
    assert second["back"]
    assert first["weights"] == second["weights"]


def test_an_interrupted_range_test_returns_its_curve_there_and_the_others_are_told(found):
    first, second = value_of(found, "interrupted_range_test")
    assert first["said"].startswith("PeerError: the ranks are not at the same place (rank 0 at a loss, rank 1 at the end)")
    assert second["said"] == "none"
    assert first["back"]
    assert second["back"]
    assert first["weights"] == second["weights"]


def test_a_plain_model_in_a_process_group_waits_for_nobody(found):
    assert value_of(found, "alone") == ["done", "done"]
