"""The model of the cost, fitted to what was measured, and what it says of a training that nobody here can run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.optimize import nnls

from scaling.single import peak_vectors
from scaling.volume import HEADER, ITEM, Ring, fsdp

SUBJECTS = ("step", "sweep step", "exact product", "Lanczos step", "differences")
Found = list[dict[str, Any]]


def fit_time(ranks: Found, cores: int) -> dict[str, Any]:
    """``seconds = a x crowd + b x bytes + c x messages``: ``a`` is what one rank takes, ``crowd`` how many ranks share a core.

    Relative errors are squared, so that small models count as much as large ones.
    """
    rows = list(timed_rows(ranks, cores))
    system = np.array([[row["bytes"], row["messages"]] for row in rows])
    measured, alone = np.array([row["seconds"] for row in rows]), np.array([row["compute"] for row in rows])
    (per_byte, per_message), _ = nnls(system / measured[:, None], np.maximum(measured - alone, 0) / measured)
    modelled = alone + system @ (per_byte, per_message)
    for row, seconds in zip(rows, modelled.tolist(), strict=True):
        row["modelled"] = seconds
    residuals = (modelled / measured - 1).tolist()
    spread = float(np.sqrt(np.mean(np.square(residuals))))
    return {"per_byte": float(per_byte), "per_message": float(per_message), "rows": rows, "residual": spread}


def timed_rows(ranks: Found, cores: int) -> Iterable[dict[str, Any]]:
    """What several ranks took, beside what one took for the same."""
    alone = {(one["kind"], one["parameters"]): one["subjects"] for one in ranks if one["ranks"] == 1}
    for one in ranks:
        for name, figures in one["subjects"].items() if one["ranks"] > 1 else ():
            yield {
                "kind": one["kind"],
                "ranks": one["ranks"],
                "parameters": one["parameters"],
                "subject": name,
                "seconds": figures["seconds"],
                "compute": alone[one["kind"], one["parameters"]][name]["seconds"] * max(1.0, one["ranks"] / cores),
                "bytes": figures["payload"] + HEADER * figures["messages"],
                "messages": figures["messages"],
            }


def fit_memory(single: dict[str, Any]) -> dict[str, Any]:
    """Peak in vectors of one number a parameter, the weights included: from the largest model, and how far the next is from it."""
    found = {}
    for name, rows in single.items():
        sizes = sorted(map(int, rows))[-2:]
        before, last = (peak_vectors(rows, str(size)) for size in sizes)
        found[name] = {"vectors": last, "residual": before / last - 1}
    return found


@dataclass(frozen=True)
class Assumed:
    """What nobody measured here: the inputs of the extrapolation, of a dense transformer under FSDP2 on H100s.

    Attributes:
        parameters: Of the model.
        blocks: Of equal size, each with ``fully_shard`` of its own.
        width: Of the residual stream: the rows of a matrix, for padding.
        ranks: GPUs.
        tokens: On every GPU in a batch.
        flops: A second that a GPU does in float32, the precision of a product; a training in bfloat16 would do more.
        training_flops: The same in bfloat16.
        bandwidth: Bytes a second that a GPU sends: 400 Gbit/s, 80 % of it used.
        latency: Seconds that a message of NCCL takes.
        host_latency: The same between hosts, over which the ranks agree.
        memory: Bytes of a GPU.
        steps: Lanczos steps of one measurement.
    """

    parameters: int = 7 * 10**9
    blocks: int = 32
    width: int = 4096
    ranks: int = 256
    tokens: int = 4096
    flops: float = 40e12
    training_flops: float = 400e12
    bandwidth: float = 40e9
    latency: float = 20e-6
    host_latency: float = 30e-6
    memory: int = 80 * 10**9
    steps: int = 30


def extrapolate(assumed: Assumed, operations: float, draw: float) -> dict[str, Any]:
    """Volume, seconds and memory of every subject; nothing of it was run. ``operations``: of an exact product, in gradients.

    ``draw``: seconds for a random number on the host.
    """
    ring = Ring(assumed.ranks, halves=True)
    rows = assumed.parameters // assumed.blocks // assumed.width
    volumes = fsdp(ring, [[(rows, assumed.width)]] * assumed.blocks, assumed.steps)
    gradient = 6 * assumed.parameters * assumed.tokens  # floating-point operations: two a weight and token forward, four backward
    work = {"step": 1.0, "sweep step": 1.0, "exact product": operations, "Lanczos step": 2.0, "differences": 2.0}  # in gradients
    volumes["Lanczos step"] = volumes["differences"] + volumes["orthogonalisation"]
    agreed = ring.table.messages
    tables = {"sweep step": 2 * agreed, "exact product": agreed}
    found = {}
    for name in SUBJECTS:
        flops = assumed.training_flops if "step" in name and "Lanczos" not in name else assumed.flops
        on_hosts = tables.get(name, 0)
        seconds = {
            "compute": work[name] * gradient / flops,
            "bytes": volumes[name].payload / assumed.bandwidth,
            "messages": (volumes[name].messages - on_hosts) * assumed.latency + on_hosts * assumed.host_latency,
        }
        found[name] = {"payload": volumes[name].payload, "seconds": seconds, "total": sum(seconds.values())}
    seconds = {"compute": draw * assumed.parameters, "bytes": 0.0, "messages": volumes["dot"].messages * assumed.latency}
    found["start vector"] = {"payload": volumes["dot"].payload, "seconds": seconds, "total": sum(seconds.values())}
    return {"assumed": asdict(assumed), "subjects": found, "memory": memory_of(assumed)}


def memory_of(assumed: Assumed) -> dict[str, float]:
    """Bytes on every GPU."""
    whole, shard = ITEM * assumed.parameters, ITEM * assumed.parameters / assumed.ranks
    return {
        "training with Adam": 4 * shard,
        "copy that all is put back from": 3 * shard,
        "whole parameters of two blocks": 2 * whole / assumed.blocks,
        "a vector": shard,
        "Lanczos": (assumed.steps + 4) * shard,
        'Lanczos, memory="offload"': 6 * shard,
        'Lanczos, memory="low"': 4 * shard,
        "exact product with whole parameters": 5 * whole,
    }
