"""One case for each kind of thing that ``preserve`` brings back: how it comes about, what spoils it, and how one sees that.

Tested twice (test_snapshot_cases.py): everything is back; and where the function that keeps it is taken away, the case sees it.
"""

from __future__ import annotations

import copy
import importlib
import os
import pkgutil
import random
import warnings
from array import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from oracles import bits, described
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.optim import SGD, AdamW, swa_utils
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, LambdaLR, OneCycleLR, ReduceLROnPlateau, SequentialLR, StepLR
from torch.utils.data import DataLoader, RandomSampler, Sampler, TensorDataset

import hessian.snapshot


@dataclass
class Case:
    """``things`` are handed over; ``spoil`` changes what ``look`` sees."""

    things: tuple[Any, ...]
    spoil: Callable[[], Any]
    look: Callable[[], Any]
    keep: list[Any] = field(default_factory=list)
    lexical: bool = False  # may be set by a ``with`` around ``restore``, which therefore leaves it

    @classmethod
    def of(cls, thing: Any, spoil: Callable[[Any], Any]) -> Case:
        return cls((thing,), lambda: spoil(thing), lambda: described(thing))


class Busy(nn.Module):
    """Holds everything that a forward pass may change, and changes it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.count = 0
        self.losses = [1.0]
        self.nested = {"a": [torch.zeros(2), (torch.ones(1), [2])], "b": {}}
        self.seen = {1, 2}
        self.recent = deque([1, 2, 3], maxlen=3)
        self.ordered = OrderedDict(x=torch.zeros(1), y=1)
        self.by_key = defaultdict(list, z=[torch.zeros(3)])
        self.counter = Counter("aab")
        self.raw = bytearray(b"abc")
        self.numbers = array("d", [1.0, -0.0])
        self.history = np.zeros(3)
        self.objects = np.array([1, "a"], dtype=object)
        self.generator = torch.Generator().manual_seed(3)
        self.numpy_generator = np.random.default_rng(4)
        self.python_generator = random.Random(5)
        self.record = SimpleNamespace(total=0, items=[])
        self.hidden = [nn.BatchNorm1d(2)]

    def forward(self, inputs):
        self.count += 1
        self.losses.append(self.count)
        self.nested["a"][0].add_(1)
        self.nested["a"][1][0].mul_(3)
        self.nested["a"][1][1].append(self.count)
        self.nested["b"]["new"] = 1
        self.nested["c"] = 2
        self.seen |= {3}
        self.recent.append(4)
        self.ordered["x"].add_(1)
        self.ordered.move_to_end("x")
        self.by_key["z"][0].add_(1)
        self.by_key["w"].append(1)
        self.counter["a"] += 1
        self.raw += b"d"
        self.numbers[1] = 0.0
        self.numbers.append(2.0)
        self.history[0] += 1
        self.objects[0] = 2
        self.record.total += 1
        self.record.items.append(1)
        self.numpy_generator.normal()
        self.python_generator.random()
        self.layer.weight.tag = self.count
        return self.hidden[0](self.layer(inputs)) + torch.randn(2, generator=self.generator)


def busy() -> Case:
    model = Busy()
    return Case.of(model, lambda model: model(torch.randn(4, 2)))


def busy_alone(name: str) -> Callable[[], Case]:
    """One attribute of it, so that nothing hides behind another."""

    def case() -> Case:
        model = Busy()
        return Case((model,), lambda: model(torch.randn(4, 2)), lambda: described(vars(model)[name]))

    return case


def forgetful() -> Case:
    """Attributes that go, come, are replaced and come back in another order."""
    model = Busy()

    def spoil() -> None:
        del model.count
        model.count = 1
        model.appears = 1
        model.losses = []
        del model.layer
        model.losses.clear()

    return Case.of(model, lambda model: spoil())


def linear() -> nn.Linear:
    return nn.Linear(3, 2)


def data() -> TensorDataset:
    return TensorDataset(torch.arange(12.0))


# Modules, gradients and hooks -----------------------------------------------------------------------------------------------------


def hooks_on_modules() -> Case:
    model = linear()
    model.register_forward_hook(lambda *args: None)

    def spoil(model: nn.Module) -> None:
        model._forward_hooks.clear()
        model.register_forward_pre_hook(lambda *args: None)
        model.register_full_backward_hook(lambda *args: None)
        model.register_state_dict_post_hook(lambda *args: None)

    return Case.of(model, spoil)


def hooks_on_tensors(first: bool) -> Callable[[], Case]:
    def case() -> Case:
        model, calls = linear(), []
        if first:
            model.weight.register_hook(lambda grad: None)
            model.weight.register_post_accumulate_grad_hook(lambda tensor: None)

        def spoil() -> None:
            model.weight.register_hook(lambda grad: calls.append(1))
            model.weight.register_post_accumulate_grad_hook(lambda tensor: calls.append(2))

        def look() -> Any:
            calls.clear()
            gradient = torch.autograd.grad(model(torch.ones(1, 3)).sum(), model.weight)
            kept = model.weight.grad
            model(torch.ones(1, 3)).sum().backward()
            model.weight.grad = kept
            return list(calls), gradient[0].tolist(), [list(getattr(model.weight, name) or {}) for name in TENSOR_HOOKS]

        return Case((model,), spoil, look)

    return case


TENSOR_HOOKS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def hooks_on_optimizers() -> Case:
    model = linear()
    optimizer = SGD(model.parameters(), lr=0.1)
    optimizer.register_step_pre_hook(lambda *args: None)

    def spoil(optimizer: Any) -> None:
        optimizer.register_step_post_hook(lambda *args: None)
        optimizer._optimizer_step_pre_hooks.clear()

    return Case.of(optimizer, spoil)


def gradients() -> Case:
    """Values, identity, and who has none."""
    model = nn.Sequential(linear(), linear())
    model[0](torch.ones(1, 3)).sum().backward()

    def spoil(model: nn.Module) -> None:
        model.zero_grad(set_to_none=True)
        model[1](torch.ones(1, 3)).sum().backward()
        model[0](torch.ones(1, 3)).sum().backward()
        for parameter in model.parameters():
            parameter.grad.fill_(7)
        model[0].weight.requires_grad_(False)

    return Case.of(model, spoil)


def modes() -> Case:
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(), linear())
    model[0].eval()
    return Case.of(model, lambda model: (model.eval(), model[0].train()))


def scripted() -> Case:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch would rather have one compile
        model = torch.jit.trace(nn.Sequential(linear(), nn.BatchNorm1d(2)), torch.ones(2, 3))

    def spoil(model: Any) -> None:
        model.eval()
        with torch.no_grad():
            for tensor in (*model.parameters(), *model.buffers()):
                tensor.add_(1)

    def look() -> Any:
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        return bits(tensors), [id(tensor) for tensor in tensors.values()], [module.training for module in model.modules()]

    return Case((model,), lambda: spoil(model), look)


def parametrized() -> Case:
    """The class of the module changes with it."""
    model = linear()

    class Double(nn.Module):
        def forward(self, weight):
            return 2 * weight

    return Case.of(model, lambda model: parametrize.register_parametrization(model, "weight", Double()))


def under_weight_norm() -> Case:
    model = parametrizations.weight_norm(linear())

    def spoil(model: Any) -> None:
        with torch.no_grad():
            model.parametrizations.weight.original0.mul_(2)
        parametrize.remove_parametrizations(model, "weight")
        parametrizations.weight_norm(model, "weight")
        parametrize.register_parametrization(model, "bias", nn.Identity())
        parametrize.remove_parametrizations(model, "weight")

    def look() -> Any:
        return described(model), model(torch.ones(1, 3)).tolist(), [name for name in ("weight", "bias") if hasattr(type(model), name)]

    return Case((model,), lambda: spoil(model), look)


def compiled() -> Case:
    model = torch.compile(nn.Sequential(linear(), nn.BatchNorm1d(2)), backend="eager")

    def spoil(model: Any) -> None:
        model(torch.randn(4, 3)).sum().backward()
        model._orig_mod[0].weight.data.add_(1)

    return Case((model,), lambda: spoil(model), lambda: described(model._orig_mod))


def frozen_record() -> Case:
    """Objects with slots, whose attributes stand in no dictionary."""

    @dataclass(slots=True)
    class Meter:
        total: float = 0.0
        items: list[Any] = field(default_factory=list)

    model = linear()
    model.meter = Meter()

    def spoil(model: Any) -> None:
        model.meter.items.append(1)
        model.meter.total += 1

    return Case.of(model, spoil)


class SlottedList(list[Any]):
    __slots__ = ("last",)


class SlottedModule(nn.Module):
    __slots__ = ("last",)


def slots_of_other_kinds() -> Case:
    """A container and a module that have slots too, one of them not set yet."""
    model = SlottedModule()
    model.losses = SlottedList([1.0])
    model.losses.last = 1.0

    def spoil() -> None:
        model.losses.last = model.last = 2.0
        model.losses.append(2.0)

    return Case((model,), spoil, lambda: (list(model.losses), model.losses.last, hasattr(model, "last")))


# Tensors --------------------------------------------------------------------------------------------------------------------------


class Wrapper(torch.Tensor):
    """A tensor made of two others and something else, as ``DTensor`` or a quantized weight is."""

    __slots__ = ("mesh", "one", "two")

    @staticmethod
    def __new__(cls, one: torch.Tensor, two: torch.Tensor) -> Any:
        return torch.Tensor._make_wrapper_subclass(cls, one.shape, dtype=one.dtype)

    def __init__(self, one: torch.Tensor, two: torch.Tensor) -> None:
        self.one, self.two, self.mesh = one, two, "no tensor"

    def __tensor_flatten__(self) -> Any:
        return ["one", "two", "mesh"], None

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(function)


def wrapper() -> Case:
    tensor = Wrapper(torch.zeros(2), torch.ones(2))

    def spoil() -> None:
        tensor.one.add_(1)
        tensor.two = torch.zeros(2)

    return Case((), spoil, lambda: (described(tensor.one), described(tensor.two)), keep=[tensor])


class Holder(nn.Module):
    def __init__(self, *tensors: torch.Tensor, **attributes: Any) -> None:
        super().__init__()
        for index, tensor in enumerate(tensors):
            self.register_buffer(f"b{index}", tensor)
        vars(self).update(attributes)


def tensors(*made: torch.Tensor) -> Callable[[], Case]:
    def case() -> Case:
        model = Holder(*(tensor.clone() for tensor in made))

        def spoil(model: Any) -> None:
            for tensor in model.buffers():
                tensor.zero_() if tensor.layout is torch.strided else tensor.mul_(3)

        return Case.of(model, spoil)

    return case


def flat() -> Case:
    """Parameters that are views of one buffer, which is there as well."""
    buffer = torch.randn(10)
    model = linear()
    model.weight.data, model.bias.data = buffer[:6].view(2, 3), buffer[6:8]
    model.register_buffer("flat", buffer)
    return Case.of(model, lambda model: (model.weight.data.add_(1), setattr(model.bias, "data", torch.ones(2)), buffer[8:].add_(1)))


def tied() -> Case:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    return Case.of(model, lambda model: setattr(model[1], "weight", nn.Parameter(torch.zeros(3, 3))) or model[0].weight.data.add_(1))


def carried() -> Case:
    """A state that is written to in place, from weights."""
    model = Holder(torch.zeros(2), weight=torch.ones(2, requires_grad=True))
    return Case((model,), lambda: model.b0.mul_(0.5).add_(model.weight), lambda: (described(model), model.b0.is_leaf))


def nested() -> Case:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises another layout
        tensor = torch.nested.nested_tensor([torch.zeros(2), torch.ones(1)])
    return Case((Holder(tensor),), lambda: tensor.add_(1), lambda: [part.tolist() for part in tensor.unbind()])


def equal_members() -> Case:
    class Token:
        def __eq__(self, other: object) -> bool:
            return isinstance(other, Token)

        def __hash__(self) -> int:
            return 1

    model = Holder(tokens={Token()})
    return Case((model,), lambda: (model.tokens.clear(), model.tokens.add(Token())), lambda: [id(token) for token in model.tokens])


def expanded() -> Case:
    model = Holder(torch.ones(1, 3).expand(4, 3))
    return Case.of(model, lambda model: model.b0[0, :].mul_(2))


def resized() -> Case:
    """As sharded training frees a storage."""
    model = linear()

    def spoil(model: Any) -> None:
        model.weight.untyped_storage().resize_(0)
        model.bias.data.resize_(5)

    def look() -> Any:
        empty = not model.weight.untyped_storage().nbytes()
        return empty or model.weight.tolist(), model.bias.tolist()  # not bits: numpy() would make the storage one of fixed size

    return Case((model,), lambda: spoil(model), look)


# Optimizers and what stands around them ---------------------------------------------------------------------------------------------


def trained(make: Callable[[Any], Any] = lambda parameters: AdamW(parameters, lr=0.1)) -> tuple[nn.Module, Any]:
    model = nn.Sequential(linear(), nn.Linear(2, 1))
    return model, make(model.parameters())


def step(model: nn.Module, optimizer: Any) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 3)).pow(2).sum().backward()
    optimizer.step()


def lazy_state() -> Case:
    model, optimizer = trained()
    return Case((model, optimizer), lambda: step(model, optimizer), lambda: (described(model), described(optimizer)))


def groups() -> Case:
    model, optimizer = trained()
    step(model, optimizer)
    optimizer.param_groups[0]["milestones"] = [1, {"a": torch.zeros(1)}]

    def spoil() -> None:
        step(model, optimizer)
        StepLR(optimizer, 1)
        optimizer.param_groups[0]["milestones"][1]["a"].add_(1)
        optimizer.param_groups[0]["milestones"].append(2)
        optimizer.param_groups.append(dict(optimizer.param_groups[0]))

    return Case((model, optimizer), spoil, lambda: (described(model), described(optimizer)))


def scheduler(make: Callable[[Any], Any], *arguments: Any) -> Callable[[], Case]:
    def case() -> Case:
        model, optimizer = trained(lambda parameters: SGD(parameters, lr=0.1, momentum=0.9))
        schedule = make(optimizer)

        def spoil() -> None:
            for _ in range(3):
                step(model, optimizer)
                schedule.step(*arguments)

        return Case((model, optimizer), spoil, lambda: (described(optimizer), described(schedule)), keep=[schedule])

    return case


def scaler() -> Case:
    model, optimizer = trained()
    grad_scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)

    def spoil() -> None:
        for factor in (1.0, float("inf")):
            optimizer.zero_grad()
            grad_scaler.scale(model(torch.ones(2, 3)).sum() * factor).backward()
            grad_scaler.step(optimizer)
            grad_scaler.update()

    return Case((model, optimizer, grad_scaler), spoil, lambda: (described(grad_scaler), described(optimizer)))


def averaged() -> Case:
    """An EMA copy, moved on by a hook of the optimizer."""
    model, optimizer = trained()
    ema = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9), use_buffers=True)
    optimizer.register_step_post_hook(lambda *args: ema.update_parameters(model))
    step(model, optimizer)
    return Case((model, optimizer), lambda: step(model, optimizer), lambda: described(ema), keep=[ema])


class Average:
    """An EMA of one's own, in a plain object."""

    def __init__(self, model: nn.Module) -> None:
        self.shadow = copy.deepcopy(model.state_dict())
        self.updates = 0


def averaged_by_hand() -> Case:
    model = linear()
    average = Average(model)

    def spoil() -> None:
        average.updates += 1
        for value in average.shadow.values():
            value.mul_(0.5)

    return Case((model,), spoil, lambda: described(average), keep=[average])


def kept_list() -> Case:
    """A list in ``keep`` is followed; one among the objects would be data."""
    shadow = [torch.zeros(3), {"n": 1}]
    return Case((), lambda: (shadow[0].add_(1), shadow[1].update(n=2), shadow.append(3)), lambda: described(shadow), keep=[shadow])


def plain_object() -> Case:
    thing = SimpleNamespace(count=1, items=[1], array=np.zeros(2))
    return Case.of(thing, lambda thing: (setattr(thing, "count", 2), thing.items.clear(), thing.array.fill(1)))


class StateInTheOptimizer(SGD):
    """Keeps objects in its state, as Shampoo does."""

    def step(self, closure=None):
        for parameter in self.param_groups[0]["params"]:
            helper = self.state[parameter].setdefault("helper", Average(linear()))
            helper.updates += 1
            next(iter(helper.shadow.values())).add_(1)


def objects_in_state() -> Case:
    model, optimizer = trained(lambda parameters: StateInTheOptimizer(parameters, lr=0.1))
    step(model, optimizer)
    return Case((optimizer,), lambda: step(model, optimizer), lambda: described(optimizer.state))


def generator(make: Callable[[], Any], draw: Callable[[Any], Any]) -> Callable[[], Case]:
    return lambda: Case.of(make(), draw)


# Loaders --------------------------------------------------------------------------------------------------------------------------


class CountingSampler(Sampler):
    """Counts its epochs, as ``DistributedSampler`` does."""

    def __init__(self, size: int) -> None:
        self.size, self.epoch, self.order = size, 0, []

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Any:
        self.epoch += 1
        self.order.append(self.epoch)
        return iter(range(self.size))


def sampler() -> Case:
    loader = DataLoader(data(), batch_size=4, sampler=CountingSampler(12))
    return Case((loader,), lambda: list(loader), lambda: described(loader.sampler))


def distributed() -> Case:
    loader = DataLoader(data(), sampler=torch.utils.data.DistributedSampler(data(), num_replicas=2, rank=0))
    return Case((loader,), lambda: loader.sampler.set_epoch(5), lambda: loader.sampler.epoch)


def loader_generators() -> Case:
    items = data()
    loader = DataLoader(
        items, sampler=RandomSampler(items, generator=torch.Generator().manual_seed(1)), generator=torch.Generator().manual_seed(2)
    )
    return Case((loader,), lambda: list(loader), lambda: (described(loader.generator), described(loader.sampler.generator)))


class Stream:
    """A loader of one's own."""

    def __init__(self) -> None:
        self.batches = [torch.zeros(2), torch.ones(2)]
        self.epoch = 0
        self.order = [0, 1]
        self.generator = np.random.default_rng(0)

    def __iter__(self) -> Any:
        self.epoch += 1
        self.generator.shuffle(self.order)
        self.order.append(self.epoch)
        return iter(self.batches)


def own_loader() -> Case:
    stream = Stream()
    return Case((stream,), lambda: list(stream), lambda: (stream.epoch, stream.order[:], described(stream.generator)))


class Cursor:
    """Keeps its position where attributes do not show it."""

    def __init__(self) -> None:
        position = [0]

        def move(to: int) -> int:
            position[0] = to
            return to

        self.get, self.move = lambda: position[0], move

    def __iter__(self) -> Any:
        return (self.move(index) for index in range(self.get(), 5))

    def state_dict(self) -> dict[str, int]:
        return {"position": self.get()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.move(state["position"])


def stateful_loader() -> Case:
    cursor = Cursor()
    cursor.move(2)
    return Case((cursor,), lambda: list(cursor), cursor.state_dict)


def list_of_batches() -> Case:
    batches = [torch.zeros(2), torch.ones(2)]
    return Case((batches,), batches.pop, lambda: [id(batch) for batch in batches])


# The whole process ------------------------------------------------------------------------------------------------------------------


def setting(spoil: Callable[[], Any], look: Callable[[], Any]) -> Callable[[], Case]:
    return lambda: Case((), spoil, look, lexical=True)


def forget_warnings() -> None:
    warnings.simplefilter("ignore")
    warnings.filterwarnings("once", "one of many")


def shown_warnings() -> Any:
    return id(warnings.filters), list(warnings.filters), warnings.showwarning


def replaced_filters() -> None:
    warnings.filters = []
    warnings.showwarning = print


GLOBAL_HOOKS = ("_global_forward_hooks", "_global_forward_pre_hooks")

CASES: dict[str, Callable[[], Case]] = {
    "everything a forward pass changes": busy,
    **{f"attribute {name}": busy_alone(name) for name in sorted(set(vars(Busy())) - set(vars(nn.Module())))},
    "attributes that come and go": forgetful,
    "hooks of modules": hooks_on_modules,
    "first hooks of tensors": hooks_on_tensors(False),
    "hooks of tensors": hooks_on_tensors(True),
    "hooks of optimizers": hooks_on_optimizers,
    "gradients": gradients,
    "train and eval flags": modes,
    "ScriptModule": scripted,
    "a new parametrization": parametrized,
    "weight norm": under_weight_norm,
    "compiled": compiled,
    "slots": frozen_record,
    "slots of other kinds": slots_of_other_kinds,
    "float16": tensors(torch.randn(3).half(), torch.randn(3).bfloat16()),
    "complex": tensors(torch.randn(3, dtype=torch.complex64), torch.randn(3, dtype=torch.complex128).conj()),
    "whole numbers": tensors(torch.arange(3), torch.tensor([True, False]), torch.tensor(5, dtype=torch.uint8)),
    "not a number": tensors(torch.tensor([float("nan"), -0.0, float("inf")])),
    "zero-size and nought-dimensional": tensors(torch.zeros(0, 3), torch.tensor(5.0)),
    "wrapper": wrapper,
    "sparse": tensors(torch.eye(3).to_sparse()),
    "strided": tensors(torch.arange(12.0).view(3, 4).t(), torch.arange(12.0)[::2]),
    "views of one buffer": flat,
    "tied weights": tied,
    "expanded buffer": expanded,
    "state carried from step to step": carried,
    "nested": nested,
    "equal members of a set": equal_members,
    "resized storage": resized,
    "state made later": lazy_state,
    "param groups": groups,
    "StepLR": scheduler(lambda optimizer: StepLR(optimizer, 1)),
    "LambdaLR": scheduler(lambda optimizer: LambdaLR(optimizer, lambda count: 0.5**count)),
    "OneCycleLR": scheduler(lambda optimizer: OneCycleLR(optimizer, 0.1, total_steps=10)),
    "warm restarts": scheduler(lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 2)),
    "ReduceLROnPlateau": scheduler(lambda optimizer: ReduceLROnPlateau(optimizer, patience=0), 1.0),
    "SequentialLR": scheduler(lambda optimizer: SequentialLR(optimizer, [StepLR(optimizer, 1), StepLR(optimizer, 2)], [2])),
    "SWALR": scheduler(lambda optimizer: swa_utils.SWALR(optimizer, 0.05)),
    "GradScaler": scaler,
    "AveragedModel": averaged,
    "average of one's own": averaged_by_hand,
    "list in keep": kept_list,
    "plain object": plain_object,
    "objects in optimizer state": objects_in_state,
    "torch.Generator": generator(lambda: torch.Generator().manual_seed(1), lambda it: torch.rand(1, generator=it)),
    "NumPy generator": generator(lambda: np.random.default_rng(1), lambda it: it.normal()),
    "NumPy MT19937": generator(lambda: np.random.Generator(np.random.MT19937(1)), lambda it: it.normal()),
    "old NumPy generator": generator(lambda: np.random.RandomState(1), lambda it: it.normal()),
    "random.Random": generator(lambda: random.Random(1), lambda it: it.gauss(0, 1)),
    "sampler": sampler,
    "DistributedSampler": distributed,
    "generators of a loader": loader_generators,
    "loader of one's own": own_loader,
    "loader with state_dict": stateful_loader,
    "list of batches": list_of_batches,
    "global generators": lambda: Case(
        (),
        lambda: (torch.rand(1), np.random.rand(), random.random()),
        lambda: (bits(torch.get_rng_state()), repr(np.random.get_state()), random.getstate()),
    ),
    "grad mode": setting(lambda: torch.set_grad_enabled(False), torch.is_grad_enabled),
    "deterministic algorithms": setting(
        lambda: torch.use_deterministic_algorithms(True, warn_only=True),
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
    ),
    "default dtype": setting(lambda: torch.set_default_dtype(torch.float64), torch.get_default_dtype),
    "default device": setting(lambda: torch.set_default_device("meta"), lambda: torch.zeros(1).device),
    "cudnn benchmark": setting(lambda: setattr(torch.backends.cudnn, "benchmark", True), lambda: torch.backends.cudnn.benchmark),
    "cudnn deterministic": setting(
        lambda: setattr(torch.backends.cudnn, "deterministic", True),
        lambda: torch.backends.cudnn.deterministic,
    ),
    "float32 precision": setting(lambda: torch.set_float32_matmul_precision("medium"), torch.get_float32_matmul_precision),
    "anomaly mode": setting(
        lambda: torch.set_anomaly_enabled(True, False), lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled())
    ),
    "autocast": setting(lambda: torch.set_autocast_enabled("cpu", True), lambda: torch.is_autocast_enabled("cpu")),
    "threads": setting(lambda: torch.set_num_threads(2), torch.get_num_threads),
    "working directory": setting(lambda: os.chdir("/"), os.getcwd),
    "warning filters": setting(forget_warnings, shown_warnings),
    "replaced warning filters": setting(replaced_filters, shown_warnings),
    "NumPy errors": setting(lambda: np.seterr(all="ignore"), np.geterr),
    "hooks of all modules": setting(
        lambda: nn.modules.module.register_module_forward_hook(lambda *args: None),
        lambda: [list(getattr(nn.modules.module, name)) for name in GLOBAL_HOOKS],
    ),
}

MODULES = [
    hessian.snapshot,
    *(importlib.import_module(f"hessian.snapshot.{found.name}") for found in pkgutil.iter_modules(hessian.snapshot.__path__)),
]


def take_away(monkeypatch: Any, name: str) -> None:
    """Nothing keeps it any more, wherever the function is used."""
    users = [module for module in MODULES if name in vars(module)]
    assert users, f"nothing is called {name}"
    for module in users:
        monkeypatch.setattr(module, name, lambda *args, **kwargs: lambda: None)


# For every function of the package that keeps something: a case that sees when it does not.
SEEN_BY = {
    "keep_array": "attribute history",
    "keep_bits": "NumPy generator",
    "keep_bytes": "attribute raw",
    "keep_container": "attribute losses",
    "keep_containers": "attribute losses",
    "keep_dicts": "attribute counter",
    "keep_empty": "hooks of modules",
    "keep_filters": "warning filters",
    "keep_flags": "gradients",
    "keep_generator": "torch.Generator",
    "keep_homes": "views of one buffer",
    "keep_hooks": "first hooks of tensors",
    "keep_loader": "loader with state_dict",
    "keep_module": "a new parametrization",
    "keep_random_state": "global generators",
    "keep_sequence": "attribute recent",
    "keep_set": "attribute seen",
    "keep_settings": "threads",
    "keep_slots": "slots",
    "keep_stretches": "float16",
    "keep_switch": "grad mode",
    "keep_tensors": "tied weights",
    "keep_whole": "sparse",
    "keep_inner": "wrapper",
}
