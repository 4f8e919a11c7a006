"""Bad input: one sentence with what is wrong and what to do, before anything moved.

One table: what is called, which exception, words of the cause, words of the cure.
"""

import math
from functools import partial

import pytest
import torch
from oracles import assert_untouched, fingerprint
from pytorch_optimizer import Lion
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader, TensorDataset

import hessian
import lrfinder
from hessian.errors import BadArgument, BadType, CurvatureError, NoSuggestionError


class Setting:
    """A training under way, from which every case spoils one thing."""

    def __init__(self):
        torch.default_generator.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.data = [(torch.randn(8, 4), torch.randint(3, (8,))) for _ in range(5)]
        self.criterion = nn.CrossEntropyLoss()
        for inputs, target in self.data:
            self.criterion(self.model(inputs), target).backward()
            self.optimizer.step()  # so there is momentum, and there are gradients, to lose

    @property
    def arguments(self):
        return {"model": self.model, "optimizer": self.optimizer, "data": self.data, "criterion": self.criterion}


FUNCTIONS = {"find_lr": lrfinder.find_lr, "range_test": lrfinder.range_test, "stable_lr": hessian.stable_lr}
SPOILED = {"model", "optimizer", "data", "val_data"}


def call(name="find_lr", **changes):
    """A call of one function on the setting with some arguments replaced; a change may be a function of the setting."""

    def prepare(setting):
        spoiled = {key: value(setting) if key in SPOILED and callable(value) else value for key, value in changes.items()}
        return partial(FUNCTIONS[name], **{**setting.arguments, **spoiled})

    return prepare


def loop(**changes):
    """An LRSweep of the setting with some arguments replaced."""

    def prepare(setting):
        spoiled = {key: value(setting) if key in SPOILED else value for key, value in changes.items()}
        return partial(lrfinder.LRSweep, **{"model": setting.model, "optimizer": setting.optimizer, **spoiled})

    return prepare


def monitor(**changes):
    """A SharpnessMonitor of the setting with some arguments replaced."""

    def prepare(setting):
        spoiled = {key: value(setting) if key in SPOILED else value for key, value in changes.items()}
        own = {"model": setting.model, "optimizer": setting.optimizer, "criterion": setting.criterion}
        return partial(hessian.SharpnessMonitor, **{**own, **spoiled})

    return prepare


def schedule(factory, *arguments, **settings):
    """A schedule of the setting's optimizer."""
    return lambda setting: partial(getattr(lrfinder, factory), setting.optimizer, *arguments, **settings)


def spoiled(**attributes):
    """A call after some values of the param group were replaced."""

    def prepare(setting):
        setting.optimizer.param_groups[0].update(attributes)
        return call()(setting)

    return prepare


def plain(function):
    """A call that needs no training."""
    return lambda setting: function


def frozen(setting):
    for parameter in setting.model.parameters():
        parameter.requires_grad_(False)
    return call()(setting)


def frozen_in_the_optimizer(setting):
    setting.model[0].requires_grad_(False)
    return call(optimizer=lambda s: torch.optim.SGD(s.model[0].parameters(), lr=0.1))(setting)


def without_lr(setting):
    del setting.optimizer.param_groups[0]["lr"]
    return call()(setting)


def of_model(make, data=None):
    """A call with another model."""

    def prepare(setting):
        model = make()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return call(model=lambda s: model, optimizer=optimizer, **({} if data is None else data))(setting)

    return prepare


def of_later(make):
    """A loop around a model whose weights are not there yet."""

    def prepare(setting):
        model = make()
        return partial(lrfinder.LRSweep, model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))

    return prepare


class Silent(nn.Module):
    """Takes a mapping and returns no loss."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return {"logits": self.layer(x)}


def made_in_inference_mode():
    with torch.inference_mode():
        return nn.Linear(4, 3)


def one_shot(setting):
    """Reads its batches once, although it looks like a loader."""
    source = iter(setting.data * 6)

    class Loader:
        def __iter__(self):
            return source

    return Loader()


def under_scheduler(setting):
    """Applying a suggestion where the next step of a scheduler would undo it."""
    setting.scheduler = torch.optim.lr_scheduler.LambdaLR(setting.optimizer, lambda epoch: 1.0)
    found = lrfinder.Suggestion(
        lr=0.01, interval=(0.01, 0.02), curve=short_curve(), midpoint=0.01, basin=(0.01, 0.02), total_steps=10, schedule=None
    )
    return partial(found.apply, setting.optimizer)


def short_curve(count=4):
    return lrfinder.LRCurve(
        lrs=[10.0**-k for k in range(count, 0, -1)],
        losses=[1.0] * count,
        status="completed",
        mode="exponential",
        start_lr=1e-4,
        end_lr=0.1,
        num_iter=count,
        stop_factor=4.0,
        smoothing=0.04,
        seed=0,
    )


CASES = {
    "optimizer of another model": (
        call(optimizer=lambda s: torch.optim.SGD(nn.Linear(4, 3).parameters(), lr=0.1)),
        BadArgument,
        "holds 2 tensors that are not parameters",
        "create it from model.parameters()",
    ),
    "optimizer missing in find_lr": (call(optimizer=None), BadType, "optimizer is None", "pass the optimizer"),
    "optimizer missing in range_test": (call("range_test", optimizer=None), BadType, "optimizer is None", "pass the optimizer"),
    "optimizer missing in stable_lr": (call("stable_lr", optimizer=None), BadType, "optimizer is None", "pass the optimizer"),
    "optimizer is something else": (call(optimizer=3), BadType, "optimizer is a int", "pass the object whose step()"),
    "Rprop": (
        call(optimizer=lambda s: torch.optim.Rprop(s.model.parameters())),
        BadArgument,
        "Rprop adapts every weight's step by itself",
        "there is no lr to find",
    ),
    "LBFGS": (
        call(optimizer=lambda s: torch.optim.LBFGS(s.model.parameters())),
        BadArgument,
        "LBFGS needs a closure",
        "as step_fn, or use SGD",
    ),
    "all learning rates zero": (spoiled(lr=0.0), BadArgument, "base learning rates are [0.0]", "create it with a positive lr"),
    "learning rate NaN": (spoiled(lr=math.nan), BadArgument, "base learning rates are [nan]", "create it with a positive lr"),
    "no learning rate": (without_lr, BadArgument, "param groups without lr", "no learning rate to find"),
    "model is no module": (call(model=lambda s: s.criterion.forward), BadType, "not a torch.nn.Module", "pass the module"),
    "lazy module": (of_model(lambda: nn.LazyLinear(3)), BadArgument, "has no shape yet", "run one batch"),
    "meta parameters": (of_model(lambda: nn.Linear(4, 3, device="meta")), BadArgument, "meta device", "load the weights first"),
    "inference parameters": (of_model(made_in_inference_mode), BadArgument, "torch.inference_mode", "make the model outside"),
    "nothing requires grad": (frozen, BadArgument, "none of the 6 parameters", "unfreeze"),
    "nothing trained requires grad": (frozen_in_the_optimizer, BadArgument, "no parameter that the optimizer holds", "unfreeze"),
    "empty data": (call(data=[]), BadArgument, "data is empty", "pass at least one batch"),
    "data that gives nothing": (call(data=lambda s: iter_of_nothing()), BadArgument, "data gave no batch", "drop_last"),
    "generator as data": (call(data=lambda s: (b for b in s.data)), BadType, "can be read only once", "pass the DataLoader"),
    "iterator as data": (call(data=lambda s: iter(DataLoader(s.data, batch_size=None))), BadType, "can be read only once", "DataLoader"),
    "data set as data": (
        call(data=lambda s: TensorDataset(torch.randn(8, 4), torch.zeros(8))),
        BadType,
        "data is a Dataset",
        "DataLoader(data, batch_size=...)",
    ),
    "tensor as data": (call(data=lambda s: torch.randn(8, 4)), BadType, "data is a Tensor, not batches", "a list of batches"),
    "empty val_data": (call(val_data=[]), BadArgument, "val_data is empty", "pass at least one batch"),
    "generator as val_data": (call(val_data=lambda s: (b for b in s.data)), BadType, "val_data is a generator", "pass the DataLoader"),
    "val_data of another kind": (call(val_data=lambda s: [(*b, 1) for b in s.data]), BadType, "a batch is 3 parts", "pass loss_fn"),
    "val_data that give nothing": (call(val_data=lambda s: iter_of_nothing()), BadArgument, "val_data gave no batch", "drop_last"),
    "data set as val_data": (
        call(val_data=lambda s: TensorDataset(torch.randn(8, 4), torch.zeros(8))),
        BadType,
        "val_data is a Dataset",
        "DataLoader(val_data, batch_size=...)",
    ),
    **{
        f"{name} in {function}": (call(function, **changes), error, cause, cure)
        for function in FUNCTIONS
        for name, changes, error, cause, cure in (
            ("accumulate of zero", {"accumulate": 0}, BadArgument, "accumulate=0 is too small", "at least 1"),
            ("accumulate as a fraction", {"accumulate": 2.5}, BadType, "accumulate=2.5 is not a whole number", "at least 1"),
            ("autocast to float32", {"autocast": torch.float32}, BadArgument, "autocast=torch.float32 is no lower", "torch.bfloat16"),
            ("autocast as a word", {"autocast": "bf16"}, BadType, "autocast is a str", "pass a dtype such as torch.bfloat16"),
            ("an open autocast", {"autocast": torch.autocast("cpu")}, BadType, "autocast is a autocast", "returns a context manager"),
            ("a number as scaler", {"scaler": 65536.0}, BadType, "scaler is a float, not a torch.amp.GradScaler", "pass the one"),
            ("clip_norm of zero", {"clip_norm": 0.0}, BadArgument, "clip_norm=0 is not a positive", "pass one such as"),
            ("clip_value as a text", {"clip_value": "1"}, BadType, "clip_value='1' is not a number", "pass a positive one"),
        )
    },
    "step_fn is no function": (call(step_fn=3), BadType, "step_fn is a int, which cannot be called", "pass a function of one batch"),
    "step_fn and clip_norm": (
        call("range_test", step_fn=lambda batch: 1.0, clip_norm=1.0),
        BadArgument,
        "step_fn and clip_norm are both given",
        "do it there and leave clip_norm out",
    ),
    "no model beside step_fn": (call(model=[], step_fn=lambda batch: 1.0), BadArgument, "model is an empty list", "pass the model"),
    "optimizer of another model beside step_fn": (
        call(optimizer=lambda s: torch.optim.SGD(nn.Linear(4, 3).parameters(), lr=0.1), step_fn=lambda batch: 1.0),
        BadArgument,
        "none of the 2 tensors that optimizer holds",
        "create it from model.parameters()",
    ),
    "criterion and loss_fn": (call(loss_fn=lambda m, b: None), BadArgument, "criterion and loss_fn are both given", "pass one"),
    "criterion is no function": (call(criterion=3), BadType, "criterion is a int", "pass a function"),
    "batches of three": (
        call(data=lambda s: [(*b, 1) for b in s.data]),
        BadType,
        "a batch is 3 parts, 2 inputs and the target, but Sequential does not take so many inputs",
        "pass loss_fn",
    ),
    "batches of one": (call("range_test", data=lambda s: [b[:1] for b in s.data]), BadType, "a batch is 1 parts", "pass loss_fn"),
    "batches without parts": (
        call("stable_lr", data=lambda s: [{"x": b[0]} for b in s.data]),
        BadType,
        "a batch is a dict",
        "pass loss_fn",
    ),
    "tuples without criterion": (call(criterion=None), BadType, "a batch must be a mapping", "pass criterion"),
    "model without loss": (
        of_model(Silent, {"data": lambda s: [{"x": torch.randn(8, 4)}], "criterion": None}),
        BadType,
        "without a loss",
        "put the labels into the batch",
    ),
    "loss per sample": (call(criterion=nn.CrossEntropyLoss(reduction="none")), BadArgument, "shape (8,), not one value", "loss.mean()"),
    "loss is a number": (call(criterion=lambda out, y: 1.0), BadType, "the loss is a float", "before .item()"),
    "loss is complex": (call(criterion=lambda out, y: out.mean() * 1j), BadType, "the loss is complex", "return a real one"),
    "loss is NaN": (call(criterion=lambda out, y: out.mean() * math.nan), BadArgument, "loss of the first batch is nan", "check the data"),
    "loss is infinite": (call("stable_lr", criterion=lambda out, y: out.mean() + math.inf), BadArgument, "is inf", "check the data"),
    "loss without grad": (call(criterion=lambda out, y: out.detach().mean()), BadArgument, "has no gradient", "without detach()"),
    "batch on another device": (
        call(data=lambda s: [(b[0].to("meta"), b[1].to("meta")) for b in s.data]),
        BadArgument,
        "the batch is on meta but the model on cpu",
        "pass device='cpu'",
    ),
    "device of another kind": (call(device="meta"), BadArgument, "device='meta', but the model is on cpu", "model.to('meta')"),
    "start above end": (call(start_lr=1.0, end_lr=0.1), BadArgument, "start_lr=1 is not below end_lr=0.1", "swap them"),
    "start equals end": (call("range_test", start_lr=1.0, end_lr=1.0), BadArgument, "start_lr=1 is not below", "swap them"),
    "negative lr": (call(start_lr=-1e-3), BadArgument, "start_lr=-0.001 is not a positive finite number", "such as 1e-3"),
    "zero lr": (call("range_test", start_lr=0.0), BadArgument, "start_lr=0 is not", "such as 1e-3"),
    "NaN lr": (call(end_lr=math.nan), BadArgument, "end_lr=nan is not", "such as 1e-3"),
    "infinite lr": (call(end_lr=math.inf), BadArgument, "end_lr=inf is not", "such as 1e-3"),
    "lr is text": (call(end_lr="1"), BadType, "end_lr='1' is not a number", "pass a positive one"),
    "lr is a flag": (call(end_lr=True), BadType, "end_lr=True is not a number", "pass a positive one"),
    "no room between": (call("range_test", start_lr=1.0, end_lr=1.0 + 1e-15), BadArgument, "there are not 100 numbers", "widen"),
    "unknown schedule in suggest_lr": (
        plain(lambda: lrfinder.suggest_lr(short_curve(), schedule="step")),
        BadArgument,
        "schedule='step' is unknown",
        "choose 'constant'",
    ),
    "no steps in suggest_lr": (
        plain(lambda: lrfinder.suggest_lr(short_curve(), total_steps=0)),
        BadArgument,
        "total_steps=0",
        "at least 1",
    ),
    "unknown schedule": (call(schedule="step"), BadArgument, "schedule='step' is unknown", "choose 'constant'"),
    "unknown budget": (call(budget="huge"), BadArgument, "budget='huge' is unknown", "a number of gradients"),
    "half a budget": (call(budget=99.5), BadType, "budget=99.5 is not a whole number", "at least 60"),
    "tiny budget": (call(budget=10), BadArgument, "budget=10 is too small", "at least 60"),
    "no steps": (call(total_steps=0), BadArgument, "total_steps=0 is too small", "at least 1"),
    "half a step": (call(total_steps=1.5), BadType, "total_steps=1.5 is not a whole number", "at least 1"),
    "negative seed in range_test": (call("range_test", seed=-1), BadArgument, "seed=-1 is too small", "at least 0"),
    "negative seed in stable_lr": (call("stable_lr", seed=-1), BadArgument, "seed=-1 is too small", "at least 0"),
    "negative seed": (call(seed=-1), BadArgument, "seed=-1 is too small", "at least 0"),
    "unknown mode": (call("range_test", mode="cosine"), BadArgument, "mode='cosine' is unknown", "choose 'exponential'"),
    "unknown metric": (call("range_test", metric="f1"), BadArgument, "metric='f1' is unknown", "pass 'accuracy', or a function"),
    "metric is a number": (call("range_test", metric=0.5), BadType, "metric is a float, which cannot be called", "pass 'accuracy'"),
    "metric that gives text": (call("range_test", metric=lambda m, b: "x"), BadType, "metric returned a str", "as a float or a tensor"),
    "accuracy of one logit": (
        call("range_test", metric="accuracy", val_data=lambda s: [(x, y.float()) for x, y in s.data], criterion=lambda o, y: o.mean()),
        BadArgument,
        "and the target is float32 of shape (8,)",
        "pass metric=lambda model, batch",
    ),
    "accuracy of several models": (
        call("range_test", model=lambda s: [s.model, s.model], metric="accuracy", step_fn=lambda b: 1.0, criterion=None),
        BadArgument,
        "metric='accuracy' needs one model, but model is a list of 2",
        "pass metric=lambda model, batch",
    ),
    "val_data without a loss": (
        call("range_test", val_data=lambda s: s.data, step_fn=lambda b: 1.0, criterion=None),
        BadArgument,
        "val_data cannot be scored by step_fn",
        "pass criterion or loss_fn",
    ),
    **{
        f"{name} in range_test": (call("range_test", val_data=value), error, cause, cure)
        for name, value, error, cause, cure in (
            ("empty val_data", [], BadArgument, "val_data is empty", "pass at least one batch"),
            ("generator as val_data", lambda s: (b for b in s.data), BadType, "val_data is a generator", "pass the DataLoader"),
            ("val_data of another kind", lambda s: [(*b, 1) for b in s.data], BadType, "a batch is 3 parts", "pass loss_fn"),
        )
    },
    "one group to compare": (
        call("range_test", per_group=True),
        BadArgument,
        "per_group compares param groups, but the optimizer has 1 param group",
        "give each part of the model its own",
    ),
    "curve without a metric": (
        plain(lambda: short_curve().clr_range()),
        NoSuggestionError,
        "the curve has no metric",
        "pass metric='accuracy'",
    ),
    "one iteration": (call("range_test", num_iter=1), BadArgument, "num_iter=1 is too small", "at least 2"),
    "negative stop factor": (call("range_test", stop_factor=-4.0), BadArgument, "stop_factor=-4 is not a positive", "pass one"),
    "stop factor of one": (call("range_test", stop_factor=1.0), BadArgument, "stop_factor=1 would stop at once", "above 1"),
    "negative smoothing": (call("range_test", smoothing=-0.1), BadArgument, "smoothing=-0.1 is not a share", "from 0 (none) to 0.5"),
    "smoothing of two": (call("range_test", smoothing=2.0), BadArgument, "smoothing=2.0 is not a share", "from 0 (none) to 0.5"),
    "no batches": (call("stable_lr", num_batches=0), BadArgument, "num_batches=0 is too small", "at least 1"),
    "negative tolerance": (call("stable_lr", tol=-0.1), BadArgument, "tol=-0.1 is not a positive", "pass one"),
    "no tolerance": (call("stable_lr", tol=0.0), BadArgument, "tol=0 is not a positive", "pass one"),
    "one product": (call("stable_lr", max_hvps=1), BadArgument, "max_hvps=1 is too small", "at least 2"),
    **{
        f"{name} of {kind}": (call(name, **spoiled), exception, cause, cure)
        for name in ("find_lr", "range_test", "stable_lr")
        for kind, spoiled, exception, cause, cure in (
            ("unknown snapshot", {"snapshot": "disk"}, BadArgument, "snapshot='disk' is unknown", "choose 'device' or 'cpu'"),
            ("keep that is no list", {"keep": nn.ReLU()}, BadType, "keep is a ReLU, not a list", "pass keep=[...]"),
        )
    },
    "unknown snapshot in preserve": (plain(lambda: hessian.preserve(snapshot="disk")), BadArgument, "snapshot='disk'", "choose 'device'"),
    **{
        f"{name} in LRSweep": (prepare, exception, cause, cure)
        for name, prepare, exception, cause, cure in (
            ("no model", loop(model=lambda s: []), BadArgument, "model is an empty list", "pass the model that your step trains"),
            ("lazy module", of_later(lambda: nn.LazyLinear(3)), BadArgument, "has no shape yet", "run one batch"),
            ("meta parameters", of_later(lambda: nn.Linear(4, 3, device="meta")), BadArgument, "meta device", "load the weights first"),
            ("no optimizer", loop(optimizer=lambda s: []), BadArgument, "optimizer is an empty list", "pass the optimizer"),
            ("a model that is a list", loop(model=lambda s: [[1]]), BadType, "model is a list, not a torch.nn.Module", "pass the module"),
            ("optimizer missing", loop(optimizer=lambda s: None), BadType, "optimizer is a NoneType", "pass the object whose step()"),
            ("loader for optimizer", loop(optimizer=lambda s: s.data), BadType, "optimizer is a tuple", "pass the object whose step()"),
            ("Rprop", loop(optimizer=lambda s: torch.optim.Rprop(s.model.parameters())), BadArgument, "Rprop adapts", "no lr to find"),
            (
                "optimizer of another model",
                loop(optimizer=lambda s: torch.optim.SGD(nn.Linear(4, 3).parameters())),
                BadArgument,
                "none of the 2 tensors that optimizer holds",
                "create it from model.parameters()",
            ),
            (
                "learning rates of zero",
                loop(optimizer=lambda s: [torch.optim.SGD(s.model.parameters(), lr=0.0)] * 2),
                BadArgument,
                "base learning rates are [0.0, 0.0]",
                "create it with a positive lr",
            ),
            ("crossed ends", loop(start_lr=1.0, end_lr=0.1), BadArgument, "start_lr=1 is not below end_lr=0.1", "swap them"),
            ("unknown snapshot", loop(snapshot="disk"), BadArgument, "snapshot='disk' is unknown", "choose 'device' or 'cpu'"),
            ("keep that is no list", loop(keep=3), BadType, "keep is a int, not a list", "pass keep=[...]"),
        )
    },
    "a scheduler that undoes apply": (under_scheduler, BadArgument, "LambdaLR is attached to the optimizer", "call apply() first"),
    "unknown rule": (plain(lambda: short_curve().suggest("best")), BadArgument, "rule 'best' is unknown", "choose one of"),
    "curve too short for a rule": (
        plain(lambda: short_curve().suggest("steepest")),
        NoSuggestionError,
        "only 4 finite points",
        "at least 10",
    ),
    "curve too short to decide": (
        plain(lambda: lrfinder.suggest_lr(short_curve())),
        NoSuggestionError,
        "only 4 finite points",
        "at least 10",
    ),
    "plot of nothing": (plain(lambda: lrfinder.plot()), BadArgument, "plot got no result", "pass a Suggestion"),
    "plot of a number": (plain(lambda: lrfinder.plot(0.1)), BadType, "cannot draw a float", "pass a Suggestion"),
    **{
        name: (monitor(**changes), error, cause, cure)
        for name, changes, error, cause, cure in (
            ("a reading after no step", {"every": 0}, BadArgument, "every=0 is too small", "at least 1"),
            ("monitor without optimizer", {"optimizer": lambda s: None}, BadType, "optimizer is None", "pass the optimizer"),
            ("monitor with two losses", {"loss_fn": lambda m, b: None}, BadArgument, "are both given", "pass one"),
            ("monitor along nothing", {"along": "axis"}, BadArgument, "along='axis' is unknown", "choose 'hessian' or 'update'"),
            (
                "monitor of Lion",
                {"optimizer": lambda s: Lion([s.model[0].weight])},
                CurvatureError,
                "Lion has no linear stability limit: its step is the sign",
                "pass along='update'",
            ),
        )
    },
    **{
        f"{name} in {factory}": (schedule(factory, *arguments, **settings), error, cause, cure)
        for factory, name, arguments, settings, error, cause, cure in (
            ("clr", "no peak", (0.0, 10), {}, BadArgument, "max_lr=0 is not a positive finite number", "pass one such as"),
            ("sgdr", "no length", (0.1, 0), {}, BadArgument, "total_steps=0 is too small", "at least 1"),
            ("one_cycle", "half a step", (0.1, 2.5), {}, BadType, "total_steps=2.5 is not a whole number", "at least 1"),
            ("clr", "base above the peak", (0.1, 10), {"base_lr": 1.0}, BadArgument, "base_lr=1 is above max_lr=0.1", "swap them"),
            ("clr", "a mode of its own", (0.1, 10), {"mode": "saw"}, BadArgument, "mode='saw' is unknown", "choose 'triangular'"),
            ("sgdr", "nothing but warm-up", (0.1, 9), {"warmup_steps": 9}, BadArgument, "leaves nothing of total_steps=9", "pass fewer"),
            ("linear", "nothing but warm-up", (0.1, 9), {"warmup_steps": 9}, BadArgument, "leaves nothing of total_steps=9", "pass fewer"),
            ("constant", "no length", (0.1, 0), {}, BadArgument, "total_steps=0 is too small", "at least 1"),
            ("one_cycle", "too much momentum", (0.1, 9), {"momentum": (0.9, 1)}, BadArgument, "momentum=(0.9, 1) is no pair", "or None"),
            ("one_cycle", "one step up", (0.1, 10), {"pct_start": 0.1}, BadArgument, "OneCycleLR divides by zero", "pass another"),
        )
    },
    "plot_schedule of nothing": (plain(lambda: lrfinder.plot_schedule(steps=9)), BadArgument, "got no schedule", "pass a torch scheduler"),
    "plot_schedule of a number": (
        plain(lambda: lrfinder.plot_schedule(0.1, steps=9)),
        BadType,
        "cannot follow a float",
        "pass a torch scheduler",
    ),
    "unknown suffix": (plain(lambda: short_curve().save("lr.gif")), BadArgument, "'lr.gif' ends in none of", "choose one"),
}


class iter_of_nothing:  # it stands in the table like the functions beside it
    """Can be read again and again, and never gives a batch."""

    def __iter__(self):
        return iter(())


def watched_model(action, setting):
    """What the call could move: its own model where it has one whose values can be read, else that of the setting."""
    model = getattr(action, "keywords", {}).get("model")
    readable = isinstance(model, nn.Module) and not any(is_lazy(parameter) for parameter in model.parameters())
    return model if readable else setting.model


def pictures(action, setting):
    """Fingerprints of both trainings and of the random generators."""
    model = watched_model(action, setting)
    if any(parameter.is_meta for parameter in model.parameters()):
        model = setting.model
    return {**fingerprint(setting.model, setting.optimizer), **{f"own {key}": value for key, value in fingerprint(model).items()}}


@pytest.mark.parametrize(("prepare", "exception", "cause", "cure"), CASES.values(), ids=CASES)
def test_bad_input_gets_one_sentence_and_nothing_moves(prepare, exception, cause, cure):
    setting = Setting()
    action = prepare(setting)
    before = pictures(action, setting)
    with pytest.raises(exception) as caught:
        action()
    assert_untouched(before, pictures(action, setting))
    message = str(caught.value)
    assert cause in message
    assert cure in message
    assert "\n" not in message


def test_a_loader_that_can_be_read_only_once_is_told_so_after_the_sweep():
    """It cannot be told before. Whatever is missing then, everything is put back, and the sweep is not lost."""
    setting = Setting()
    before = fingerprint(setting.model, setting.optimizer)
    with pytest.raises(NoSuggestionError, match=r"\(status data_ended\).*data that can be read more than once") as caught:
        lrfinder.find_lr(**{**setting.arguments, "data": one_shot(setting)})
    assert_untouched(before, fingerprint(setting.model, setting.optimizer))
    assert caught.value.curve.status == "data_ended"


@pytest.mark.parametrize("exception", [BadArgument, BadType])
def test_exceptions_are_the_builtin_ones_that_users_catch(exception):
    assert issubclass(exception, {BadArgument: ValueError, BadType: TypeError}[exception])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda setting: setting.model[1].running_mean.add_(1e-7),
        lambda setting: setting.optimizer.state.clear(),
        lambda setting: setting.optimizer.param_groups[0].update(lr=0.2),
        lambda setting: setting.model[2].bias.grad.zero_(),
        lambda setting: setting.model[1].eval(),
        lambda setting: torch.rand(1),
    ],
    ids=["buffer", "momentum", "lr", "gradient", "mode", "generator"],
)
def test_the_check_that_nothing_moved_can_fail(spoil):
    setting = Setting()
    before = pictures(None, setting)
    spoil(setting)
    with pytest.raises(AssertionError):
        assert_untouched(before, pictures(None, setting))
