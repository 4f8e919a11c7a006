"""Hugging Face ``transformers.Trainer``: what its ``train()`` would do, as the arguments of ``find_lr``."""

from __future__ import annotations

from typing import Any

from hessian import preserve
from lrfinder.integrations.needs import require

require("accelerate", "transformers", "1.6")
require("transformers", "transformers", "5.8")

from transformers import Trainer  # noqa: E402

from lrfinder.integrations.transformers_follower import Follower, check_trainer  # noqa: E402
from lrfinder.integrations.transformers_monitor import SharpnessCallback as SharpnessCallback  # noqa: E402


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
