"""Bad input: one sentence with what is wrong and what to do, before anything moved.

One table: what is called, which exception, words of the cause, words of the cure.
"""

import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import hessian
import lrfinder
from hessian.errors import BadArgument, BadType, NoSuggestionError


class Setting:
    """A training that works, from which every case spoils one thing."""

    def __init__(self):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.data = [(torch.randn(8, 4), torch.randint(3, (8,))) for _ in range(5)]
        self.criterion = nn.CrossEntropyLoss()

    def digest(self):
        """Every bit that a measurement could move."""
        tensors = [*self.model.state_dict().values(), torch.random.get_rng_state()]
        state = {key: value for group in self.optimizer.param_groups for key, value in group.items() if key != "params"}
        flags = [module.training for module in self.model.modules()]
        grads = [parameter.grad is None for parameter in self.model.parameters()]
        return [tensor.numpy().tobytes() for tensor in tensors], state, dict(self.optimizer.state), flags, grads


FUNCTIONS = {"find_lr": lrfinder.find_lr, "range_test": lrfinder.range_test, "stable_lr": hessian.stable_lr}


def call(name="find_lr", **changes):
    """A call of one function on the setting with some arguments replaced; a change may be a function of the setting."""

    def run(setting):
        arguments = {"model": setting.model, "optimizer": setting.optimizer, "data": setting.data, "criterion": setting.criterion}
        arguments |= {key: value(setting) if key in SPOILED and callable(value) else value for key, value in changes.items()}
        return FUNCTIONS[name](**arguments)

    return run


SPOILED = {"model", "optimizer", "data", "val_data"}


def spoiled(**attributes):
    """A setting's call after some of its group values were replaced."""

    def run(setting):
        setting.optimizer.param_groups[0].update(attributes)
        return call()(setting)

    return run


def frozen(setting):
    for parameter in setting.model.parameters():
        parameter.requires_grad_(False)
    return call()(setting)


def without_lr(setting):
    del setting.optimizer.param_groups[0]["lr"]
    return call()(setting)


def mapping_without_loss(setting):
    class Silent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x):
            return {"logits": self.layer(x)}

    model = Silent()
    return lrfinder.find_lr(model, torch.optim.SGD(model.parameters(), lr=0.1), [{"x": torch.randn(8, 4)}])


def lazy(setting):
    model = nn.LazyLinear(3)
    return lrfinder.find_lr(model, torch.optim.SGD(model.parameters(), lr=0.1), setting.data, setting.criterion)


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


META = nn.Linear(4, 3, device="meta")
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
    "LBFGS": (call(optimizer=lambda s: torch.optim.LBFGS(s.model.parameters())), BadArgument, "LBFGS needs a closure", "use SGD or Adam"),
    "all learning rates zero": (spoiled(lr=0.0), BadArgument, "base learning rates are [0.0]", "create it with a positive lr"),
    "learning rate NaN": (spoiled(lr=math.nan), BadArgument, "base learning rates are [nan]", "create it with a positive lr"),
    "no learning rate": (without_lr, BadArgument, "param groups without lr", "no learning rate to find"),
    "model is no module": (call(model=lambda s: s.criterion.forward), BadType, "not a torch.nn.Module", "pass the module"),
    "lazy module": (lazy, BadArgument, "has no shape yet", "run one batch"),
    "meta device": (
        call(model=lambda s: META, optimizer=lambda s: torch.optim.SGD(META.parameters(), lr=0.1)),
        BadArgument,
        "meta device",
        "load the weights first",
    ),
    "nothing requires grad": (frozen, BadArgument, "none of the 6 parameters", "unfreeze"),
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
    "criterion and loss_fn": (call(loss_fn=lambda m, b: None), BadArgument, "criterion and loss_fn are both given", "pass one"),
    "criterion is no function": (call(criterion=3), BadType, "criterion is a int", "pass a function"),
    "batches of three": (call(data=lambda s: [(*b, 1) for b in s.data]), BadType, "a batch is 3 parts", "pass loss_fn"),
    "tuples without criterion": (call(criterion=None), BadType, "a batch must be a mapping", "pass criterion"),
    "model without loss": (mapping_without_loss, BadType, "without a loss", "put the labels into the batch"),
    "loss per sample": (call(criterion=nn.CrossEntropyLoss(reduction="none")), BadArgument, "shape (8,), not one value", "loss.mean()"),
    "loss is a number": (call(criterion=lambda out, y: 1.0), BadType, "the loss is a float", "before .item()"),
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
    "unknown schedule": (call(schedule="step"), BadArgument, "schedule='step' is unknown", "choose 'constant'"),
    "unknown budget": (call(budget="huge"), BadArgument, "budget='huge' is unknown", "a number of gradients"),
    "tiny budget": (call(budget=10), BadArgument, "budget=10 is too small", "at least 60"),
    "no steps": (call(total_steps=0), BadArgument, "total_steps=0 is too small", "at least 1"),
    "half a step": (call(total_steps=1.5), BadType, "total_steps=1.5 is not a whole number", "at least 1"),
    "negative seed": (call(seed=-1), BadArgument, "seed=-1 is too small", "at least 0"),
    "unknown mode": (call("range_test", mode="cosine"), BadArgument, "mode='cosine' is unknown", "choose 'exponential'"),
    "one iteration": (call("range_test", num_iter=1), BadArgument, "num_iter=1 is too small", "at least 2"),
    "stop factor of one": (call("range_test", stop_factor=1.0), BadArgument, "stop_factor=1 would stop at once", "above 1"),
    "smoothing of two": (call("range_test", smoothing=2.0), BadArgument, "smoothing=2.0 is not a share", "from 0 (none) to 0.5"),
    "no batches": (call("stable_lr", num_batches=0), BadArgument, "num_batches=0 is too small", "at least 1"),
    "no tolerance": (call("stable_lr", tol=0.0), BadArgument, "tol=0 is not a positive", "pass one"),
    "one product": (call("stable_lr", max_hvps=1), BadArgument, "max_hvps=1 is too small", "at least 2"),
    "unknown rule": (lambda s: short_curve().suggest("best"), BadArgument, "rule 'best' is unknown", "choose one of"),
    "curve too short for a rule": (lambda s: short_curve().suggest("steepest"), NoSuggestionError, "only 4 finite points", "at least 10"),
    "curve too short to decide": (lambda s: lrfinder.suggest_lr(short_curve()), NoSuggestionError, "only 4 finite points", "at least 10"),
    "plot of nothing": (lambda s: lrfinder.plot(), BadArgument, "plot got no result", "pass a Suggestion"),
    "plot of a number": (lambda s: lrfinder.plot(0.1), BadType, "cannot draw a float", "pass a Suggestion"),
    "unknown suffix": (lambda s: short_curve().save("lr.gif"), BadArgument, "'lr.gif' ends in none of", "choose one"),
}


class iter_of_nothing:  # it stands in the table like the functions beside it
    """Can be read again and again, and never gives a batch."""

    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(("run", "exception", "cause", "cure"), CASES.values(), ids=CASES)
def test_bad_input_gets_one_sentence_and_nothing_moves(run, exception, cause, cure):
    setting, untouched = Setting(), Setting()
    with pytest.raises(exception) as caught:
        run(setting)
    message = str(caught.value)
    assert cause in message
    assert cure in message
    assert "\n" not in message
    assert setting.digest()[0] == untouched.digest()[0]
    assert setting.digest()[2:] == untouched.digest()[2:]


@pytest.mark.parametrize("exception", [BadArgument, BadType])
def test_exceptions_are_the_builtin_ones_that_users_catch(exception):
    assert issubclass(exception, {BadArgument: ValueError, BadType: TypeError}[exception])


def test_the_check_that_nothing_moved_can_fail():
    setting, untouched = Setting(), Setting()
    setting.model[1].running_mean += 1e-7
    assert setting.digest()[0] != untouched.digest()[0]
