"""A program: entry points with a loader whose worker dies at its first sample; says so where nothing was harmed.

Later deaths cannot be tested reliably: torch reports them at a signal, which may come when nobody waits for the sample any more.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from digest import digest
from oracles import differences
from subjects import ENTRIES, OPTIMIZERS, Points, make_subject

KIND = OPTIMIZERS["adam mid-training onecycle"]


class Mortal(Points):
    """Its worker process ends at once."""

    def __getitem__(self, index: int) -> Any:
        if torch.utils.data.get_worker_info() is not None:
            os._exit(1)
        return super().__getitem__(index)


def check(entry: str) -> None:
    subject = make_subject(KIND, Mortal)
    subject.loader = torch.utils.data.DataLoader(
        subject.loader.dataset,
        batch_size=4,
        shuffle=True,
        generator=subject.loader.generator,
        num_workers=1,
        multiprocessing_context="fork",
    )
    before = digest(subject)
    try:
        ENTRIES[entry](subject, KIND)
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error):
            raise
        print([name for name in differences(before, digest(subject)) if name != "files"])  # multiprocessing leaves some behind


if __name__ == "__main__":
    for name in ENTRIES:
        check(name)
