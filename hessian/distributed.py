"""Several processes that measure one model together: who they are, how they agree, and how a failure of one reaches the others.

Only this module, ``hessian.wire`` and ``hessian.sharded`` know ``torch.distributed``. Without an initialized process group, or for a model
that is wrapped for none, a team is one process and all of this does nothing.

Ranks agree by a table with one row a rank (docs/scale.md): every rank reads the same rows and so decides the same. A rank that fails
says so in its row, at whatever table the others are waiting.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hessian.errors import BadArgument, PeerError
from hessian.sharded import mesh_groups, ranks_of, ranks_of_mesh
from hessian.spaces import space_of
from hessian.vectors import Space
from hessian.wire import LONGEST, Wire, is_communication, patient, sentence

GOING, DONE, FAILED = 0.0, 1.0, 2.0
COLUMNS = 6  # what the table is for, the state of the rank, four numbers
PURPOSES = ("a loss", "a batch", "a count", "a product", "the end")

T = TypeVar("T")


def initialized() -> bool:
    """Whether there is a process group with more than one process."""
    dist = torch.distributed
    return bool(dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1)


def is_main() -> bool:
    """Whether this process is the one that prints, draws and saves. Under ``torchrun`` also before the process group is there."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return bool(torch.distributed.get_rank() == 0)
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"


def bare(model: Any) -> Any:
    """The model inside of ``DistributedDataParallel``, and of ``torch.compile`` where that stands around or inside of the former."""
    wrapped = list(layers(model))
    return wrapped[-1] if any(isinstance(part, DistributedDataParallel) for part in wrapped) else model


def layers(model: Any) -> Iterator[Any]:
    """A model and what it is wrapped around, from the outside in."""
    while model is not None:
        yield model
        model = model.module if isinstance(model, DistributedDataParallel) else getattr(model, "_orig_mod", None)


def bucket_gradients(modules: Sequence[nn.Module]) -> list[Tensor]:
    """Gradients that lie in the buckets of ``DistributedDataParallel``, where every backward pass writes, whatever ``.grad`` is."""
    parameters = [parameter for wrapper in wrappers(modules) if wrapper.gradient_as_bucket_view for parameter in wrapper.parameters()]
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def wrappers(modules: Sequence[nn.Module]) -> list[DistributedDataParallel]:
    return [part for root in modules for part in root.modules() if isinstance(part, DistributedDataParallel)]


def team_of(modules: Sequence[nn.Module]) -> Team:
    """The processes that train these modules together, as their wrappers and sharded parameters tell."""
    if not initialized():
        return Team()
    over_data, over_model = mesh_groups(modules)
    return Team(unique([*(wrapper.process_group for wrapper in wrappers(modules)), *over_data]), unique(over_model))


def unique(groups: Sequence[Any]) -> list[Any]:
    """Process groups of more than one process, one for the same ranks: a mesh may be there several times."""
    return list({ranks_of(group): group for group in reversed(groups) if group.size() > 1}.values())


def members(groups: Sequence[Any]) -> list[int]:
    """Global ranks of all that the groups connect."""
    dist = torch.distributed
    if not groups:
        return []
    if len(groups) == 1:
        return list(ranks_of(groups[0]))
    count, world = math.prod(group.size() for group in groups), dist.get_world_size()
    if count != world:
        raise BadArgument(
            f"the model's process groups connect {count} ranks of {world}, which is not supported with several groups; "
            "measure with one group, or with a mesh over all ranks."
        )
    return list(range(world))


class Team:
    """The ranks of one measurement.

    Args:
        over_data: Process groups whose ranks see different batches.
        over_model: Process groups whose ranks hold different parts of the model and see the same batch.

    Attributes:
        size: How many ranks.
        replicas: How many of them see the same batch.
    """

    def __init__(self, over_data: Sequence[Any] = (), over_model: Sequence[Any] = ()) -> None:
        self.over_data = over_data
        self._groups = [*over_data, *over_model]
        self.ranks = members(self._groups)
        self.size = max(len(self.ranks), 1)
        self.replicas: int = math.prod(group.size() for group in over_model)
        self._wire: Wire | None = None
        self._over = False

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def readers(self) -> int:
        """How many ranks see different batches."""
        return self.size // self.replicas

    @property
    def _place(self) -> int:
        return self.ranks.index(torch.distributed.get_rank())

    def mean(self, value: float, weight: float | None) -> float:
        """Mean over the ranks, weighted by their samples; the same on every rank, bit for bit. NaN if one is."""
        if self.alone:
            return value
        return mean_of([(row[0], row[1]) for row in self.rows("a loss", value, weight or 1)])

    def least(self, count: int, purpose: str = "a count") -> int:
        return int(self.lowest(count, purpose))

    def lowest(self, value: float, purpose: str = "a count") -> float:
        return value if self.alone else min(row[0] for row in self.rows(purpose, value))

    def every(self, state: bool) -> bool:
        return bool(self.least(int(state)))

    def total(self, count: int | None) -> int | None:
        """Sum over the ranks that see different batches; None if one does not know."""
        if self.alone:
            return count
        rows = self.rows("a count", math.nan if count is None else count)
        return round(math.fsum(row[0] for row in rows) / self.replicas) if finite(rows) else None

    def share(self, weight: float) -> float:
        """This rank's share of the weights of all that see different batches."""
        return 1.0 if self.alone else weight * self.replicas / math.fsum(row[0] for row in self.rows("a count", weight))

    def sum_(self, vector: Tensor) -> Tensor:
        """The vector summed, in place, over the ranks that see different batches: one all-reduce, once every rank has its part."""
        if not self.alone:
            self.rows("a product")
            self._reduce(vector, self.over_data)
        return vector

    def space(self, parameters: Sequence[Tensor]) -> Space:
        def first_elsewhere(parameter: Tensor) -> bool:
            return all(group.rank() == 0 for group in self._groups if ranks_of(group) not in ranks_of_mesh(parameter))

        return space_of(parameters, lambda tensor: self._reduce(tensor, self._groups), first_elsewhere)

    def around(self, guard: AbstractContextManager[T]) -> AbstractContextManager[T]:
        """Whatever ends the block on one rank ends it on all, each having put everything back before; alone, the guard itself."""
        return guard if self.alone else self._together(guard)

    @contextmanager
    def _together(self, guard: AbstractContextManager[T]) -> Iterator[T]:
        self._wire, self._over = Wire(self.ranks), False
        try:
            with patient(self._groups):
                try:
                    with guard as inside:
                        yield inside
                except BaseException as error:
                    self._part(error)
                    raise
                self._part(None)
        finally:
            self._wire = None

    def _part(self, error: BaseException | None) -> None:
        """Say how it ended here, unless that is known; hear how it ended elsewhere. An error that is but the echo of another gives way."""
        if self._over:
            return
        echo = error is not None and is_communication(error)
        try:
            self.rows("the end", float(echo), state=DONE if error is None else FAILED, text=sentence(error))
        except PeerError as others:
            if error is None or echo:
                raise others from error

    def rows(self, purpose: str, *numbers: float, state: float = GOING, text: str = "") -> list[list[float]]:
        """Up to four numbers of every rank, in order: the one small all-reduce that all else here is made of.

        Raises:
            PeerError: If a rank failed, is gone, or is somewhere else.
        """
        table = torch.zeros(self.size, COLUMNS, dtype=torch.float64)
        table[self._place, : 2 + len(numbers)] = torch.tensor([PURPOSES.index(purpose), state, *numbers], dtype=torch.float64)
        if self._wire is None:  # outside of a measurement, as for an operator on its own
            table = self._reduce(table.to(home_of(self._groups)), self._groups).cpu()
        else:
            try:
                self._wire.sum_(table)
            except RuntimeError as error:
                self._over = True
                raise PeerError(f"{self._wire.silent()}; {ENDED}") from error
        rows: list[list[float]] = table.tolist()
        self._check(rows, state, text)
        return [row[2:] for row in rows]

    def _check(self, rows: list[list[float]], state: float, text: str) -> None:
        """Go on only if every rank goes on, and does the same."""
        if any(row[1] == FAILED for row in rows):
            self._over = True
            told = zip(self.ranks, self._texts(text), rows, strict=True)
            real = [f"rank {rank} {said}" for rank, said, row in told if row[1] == FAILED and not row[2]]
            raise PeerError(f"{'; '.join(real) or 'the ranks lost each other'}; {ENDED}")
        if any(row[:2] != rows[0][:2] for row in rows):
            self._over = True
            if state == GOING:
                where = ", ".join(f"rank {rank} at {PURPOSES[int(row[0])]}" for rank, row in zip(self.ranks, rows, strict=True))
                raise PeerError(f"the ranks are not at the same place ({where}): one of them was interrupted, or runs other code; {ENDED}")
            return
        self._over = state != GOING

    def _texts(self, text: str) -> list[str]:
        """A sentence of every rank."""
        letters = torch.zeros(self.size, LONGEST, dtype=torch.uint8)
        coded = text.encode()[:LONGEST]
        letters[self._place, : len(coded)] = torch.tensor(list(coded), dtype=torch.uint8)
        if self._wire is not None:
            with suppress(RuntimeError):
                self._wire.sum_(letters)
        return [bytes(row).rstrip(b"\0").decode(errors="ignore") for row in letters.tolist()]

    def _reduce(self, tensor: Tensor, groups: Sequence[Any]) -> Tensor:
        for group in groups:
            torch.distributed.all_reduce(tensor, group=group)
        return tensor


ENDED = "the measurement ended on every rank, and all is as before"


def mean_of(pairs: Sequence[tuple[float, float]]) -> float:
    """Mean of values by their weights, in whatever order they come; NaN if a number is not finite."""
    if not finite(pairs):
        return math.nan
    return math.fsum(value * weight for value, weight in pairs) / math.fsum(weight for _, weight in pairs)


def finite(rows: Sequence[Sequence[float]]) -> bool:
    return all(math.isfinite(number) for row in rows for number in row)


def home_of(groups: Sequence[Any]) -> torch.device:
    """Where tensors of these groups have to lie."""
    kinds = {kind.type for group in groups for kind in group._device_types}
    return torch.device("cpu" if "cpu" in kinds or not kinds else kinds.pop())
