"""When a finder is called, and what happens while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from faults.fault import Kind


@dataclass(frozen=True)
class Scenario:
    """``underway``: five steps of training lie behind, with their optimizer state and gradients."""

    underway: bool = False
    scheduler: bool = False
    frozen: bool = False
    fault: Kind = "none"
    runs: int = 1


SCENARIOS: dict[str, Scenario] = {
    "before training": Scenario(),
    "before training, frozen batch norm": Scenario(frozen=True),
    "mid-training": Scenario(underway=True),
    "mid-training, twice": Scenario(underway=True, runs=2),
    "mid-training, with a scheduler": Scenario(underway=True, scheduler=True),
    "the loss raises at step 7": Scenario(fault="raise"),
    "Ctrl-C at step 7": Scenario(fault="interrupt"),
    "the loss is NaN from step 7 on": Scenario(fault="nan"),
    "the loader raises at step 7": Scenario(fault="read"),
    "mid-training, the loss raises at step 7": Scenario(underway=True, fault="raise"),
}
