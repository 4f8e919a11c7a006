"""Hugging Face ``transformers.Trainer``: what ``train()`` would do, as arguments of ``find_lr``; a callback that follows the sharpness."""

from __future__ import annotations

import copy
from typing import Any

from hessian import SharpnessMonitor, preserve
from hessian.batches import Batches
from lrfinder.integrations.needs import require, scalars

require("accelerate", "transformers", "1.6")
require("transformers", "transformers", "5.8")

from transformers import Trainer, TrainerCallback  # noqa: E402

from lrfinder.integrations.accelerate import bare_optimizer  # noqa: E402
from lrfinder.integrations.transformers_follower import Follower, check_trainer, configs_of  # noqa: E402


def from_trainer(trainer: Trainer, **overrides: Any) -> dict[str, Any]:
    """The keyword arguments of ``find_lr`` for the training that ``trainer.train()`` would make.

    ::

        found = lrfinder.find_lr(**from_trainer(trainer))
        trainer.args.learning_rate = found.lr
        trainer.train()

    The loss is what ``trainer.training_step`` would run backward, your own ``compute_loss`` included. Optimizer, clipping
    (``max_grad_norm`` is 1.0 unless you change it), precision, batches, length and schedule are those of ``train()``; callbacks and
    ``log`` do not run. More in docs/frameworks.md.

    The trainer is left as it is, but its model (and an optimizer that you gave it) is put into train mode, as ``train()`` does. An
    optimizer that you gave keeps its own LR: use ``found.apply(optimizer)``. With ``model_init`` a new model is made, as in ``train()``.

    Args:
        trainer: The ``Trainer``, or a subclass, before or after a ``train()``.
        overrides: More arguments of ``find_lr``, or others in place of these: ``budget="quick"``,
            ``val_data=trainer.get_eval_dataloader()``.

    Raises:
        BadType: If it is no ``Trainer``.
        BadArgument: If ``train()`` would do what cannot be followed: several processes or GPUs, DeepSpeed, FSDP, compiling, Liger
            kernels, optimizers that step inside the backward pass.
    """
    check_trainer(trainer)
    with preserve():  # making loaders and models draws random numbers
        follower = Follower(trainer)
        arguments = follower.arguments()
    if "val_data" in overrides:  # reading Accelerate's loader to its middle would leave its gradient state changed
        overrides["val_data"] = getattr(overrides["val_data"], "base_dataloader", overrides["val_data"])
    return {**arguments, **overrides, "keep": [*arguments["keep"], *overrides.get("keep", ())]}


class SharpnessCallback(TrainerCallback):  # type: ignore[misc]
    """Follows the sharpness of the training against its optimizer's limit; see ``hessian.SharpnessMonitor``. The training does not change.

    Every ``every``-th optimizer step is read, always on the same batch, the first that the trainer's loader gives (with accumulation
    all micro-batches of a step), as callbacks do not see the batches of the training. The loss is what ``trainer.training_step``
    would run backward. The numbers go where the trainer logs, as ``sharpness/sharpness``, ``/lr``, ``/limit_lr`` and ``/ratio``.

    ::

        follow = SharpnessCallback(trainer, every=100)
        trainer.add_callback(follow)
        trainer.train()
        print(follow.monitor.record)

    Args:
        trainer: The trainer, which callbacks are not told.
        every: Optimizer steps from reading to reading.
        batch: Another batch to read on, as the trainer's data collator makes them.
        log: Send the numbers to ``trainer.log``.
        settings: Others of ``SharpnessMonitor``: ``along``, ``method``, ``seed``, ``keep``, ``snapshot``.

    Attributes:
        monitor: The monitor of the last ``train()``, or None before it.
        batch: What is read on.

    Raises:
        BadType, BadArgument: Where ``from_trainer`` does.
    """

    def __init__(self, trainer: Trainer, *, every: int = 100, batch: Any = None, log: bool = True, **settings: Any) -> None:
        check_trainer(trainer)
        self.trainer, self.every, self.batch, self.log, self.settings = trainer, every, batch, log, settings
        self.monitor: SharpnessMonitor | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin, now that model and optimizer are there."""
        with preserve():  # making a loader draws random numbers
            follower = Follower(alone(self.trainer))
        if self.batch is None:
            with preserve(keep=[follower.data]):
                (self.batch,) = Batches(follower.data).take(1)
        keep = [follower.trainer, *configs_of(follower.model), *self.settings.get("keep", ())]
        loss = follower.mixed.around(follower.loss)
        optimizer = bare_optimizer(self.trainer.optimizer)
        self.monitor = SharpnessMonitor(follower.model, optimizer, loss_fn=loss, every=self.every, **{**self.settings, "keep": keep})

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count an optimizer step."""
        assert self.monitor is not None
        reading = self.monitor.step(self.batch)
        if reading is not None and self.log:
            self.trainer.log(scalars(reading))


def alone(trainer: Trainer) -> Trainer:
    """A copy that has made its model, activated its noise, and knows no callbacks: this one must not be put back with what is kept."""
    twin = copy.copy(trainer)
    twin.model_init = twin.neftune_noise_alpha = None
    twin.callback_handler = copy.copy(trainer.callback_handler)
    twin.callback_handler.callbacks = []
    return twin
