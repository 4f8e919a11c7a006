"""The tasks, in the order in which their truth is made: the short ones first, the long horizons last."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from suite import datasets as data
from suite.losses import classes, contrastive, denoising, gaussian, next_character_loss, reconstruction, smoothed, squares, tokens
from suite.nets import Mixer, Recurrent, Sorter, conv, group_norm, mlp, signal_conv, transformer
from suite.optimizers import ADAGRAD, ADAM, ADAMW, NADAM, RMSPROP, SGD, Lion, using
from suite.pretrained import digit_net, frozen_digit_net, language_model, language_model_top
from suite.samples import Split, drawn, endless
from suite.task import ALL, Task

# Samples of the sources.
moons, circles = partial(drawn, data.moons, 800), partial(drawn, data.circles, 600)
friedman, tabular = partial(drawn, data.friedman, 900), partial(drawn, data.tabular, 3000)
mixture, mislabelled = partial(drawn, data.mixture, 3000), partial(drawn, data.mislabelled, 1200)
parity = partial(drawn, data.parity, 500)
swiss_roll, sorting = partial(drawn, data.swiss_roll, 1000), partial(drawn, data.sorting, 3000)
high_digits = partial(data.digits_of, 5, 9)
fresh_moons, fresh_circles, fresh_mixture = (partial(endless, source) for source in (data.moons, data.circles, data.mixture))

# Nets that fit one set, or that several tasks train.
wine_linear, cancer_linear, mixture_linear = partial(nn.Linear, 13, 3), partial(nn.Linear, 30, 2), partial(nn.Linear, 24, 20)
friedman_net, moons_net = partial(mlp, (10, 48, 48, 1)), partial(mlp, (2, 32, 32, 2))
deep_relu, deep_tanh = partial(mlp, (64, 48, 48, 48, 48, 48, 10)), partial(mlp, (3, 32, 32, 32, 32, 2), nn.Tanh)
circles_tanh, tabular_tanh = partial(mlp, (2, 24, 24, 24, 24, 2), nn.Tanh), partial(mlp, (6, 32, 32, 32, 1), nn.Tanh)
moons_tanh, mixture_relu = partial(mlp, (2, 24, 24, 24, 24, 2), nn.Tanh), partial(mlp, (24, 48, 48, 48, 48, 48, 20))
mixture_norm, mixture_gelu = partial(mlp, (24, 48, 48, 48, 20), nn.ReLU, nn.BatchNorm1d), partial(mlp, (24, 48, 48, 20), nn.GELU)
digit_mlp, cancer_mlp = partial(mlp, (64, 48, 48, 10)), partial(mlp, (30, 32, 32, 2))
encoder = partial(mlp, (64, 64, 16), nn.GELU)
digit_coder, patch_coder = partial(mlp, (64, 48, 8, 48, 64), nn.Tanh), partial(mlp, (64, 48, 10, 48, 64), nn.Tanh)
denoiser, small_denoiser = partial(mlp, (66, 96, 96, 64), nn.SiLU), partial(mlp, (66, 64, 64, 64), nn.SiLU)
digit_conv, patch_conv = partial(conv, group_norm), partial(conv, nn.BatchNorm2d, 2)
cancer_dropout, signal_dropout = partial(mlp, (30, 48, 48, 2), dropout=0.3), partial(mlp, (40, 64, 64, 10), dropout=0.1)

# Optimizers, and a batch of everything.
plain, momentum, nesterov = using(SGD), using(SGD, momentum=0.9), using(SGD, momentum=0.9, nesterov=True)
adam, adamw, nadam, rmsprop, adagrad, lion = (using(kind) for kind in (ADAM, ADAMW, NADAM, RMSPROP, ADAGRAD, Lion))
plain_decay, nesterov_decay = using(SGD, weight_decay=1e-3), using(SGD, momentum=0.9, nesterov=True, weight_decay=5e-4)
adamw_decay, lion_decay = using(ADAMW, weight_decay=0.05), using(Lion, weight_decay=0.01)
clipped_adam, clipped_momentum = using(ADAM, clip=0.5), using(SGD, clip=1.0, momentum=0.9)
clipped_nesterov = using(SGD, clip=1.0, momentum=0.9, nesterov=True)
EVERYTHING = 1_000_000  # samples: more than any set has

fine_tuning = partial(Task, fine_tuning=True)


def batch_sizes(name: str, samples: Callable[[], Split], net: Callable[[], nn.Module], steps: int) -> list[Task]:
    """The same training with ever larger batches, for as many steps."""
    sizes = {"b8": 8, "b32": 32, "b128": 128, "full": EVERYTHING}
    return [Task(f"{name}-{label}", samples, net, classes, momentum, size, steps, start=-1) for label, size in sizes.items()]


FITTED = [
    Task("wine-linear-sgd", data.wine, wine_linear, classes, plain, 32, 200, start=-0.5),
    Task("wine-tanh-adamw-full", data.wine, partial(mlp, (13, 32, 32, 3), nn.Tanh), classes, adamw_decay, EVERYTHING, 150),
    Task("iris-tanh-momentum-full", data.iris, partial(mlp, (4, 16, 3), nn.Tanh), classes, momentum, EVERYTHING, 300, start=-1),
    Task("moons-mlp-sgd-b8", moons, moons_net, classes, plain, 8, 600, ALL, start=-0.5),
    Task("friedman-mlp-nadam", friedman, friedman_net, squares, nadam, 32, 300),
    Task("friedman-gaussian-adam", friedman, partial(mlp, (10, 48, 2)), gaussian, adam, 32, 500),
    Task("tabular-mlp-adagrad", tabular, partial(mlp, (6, 48, 48, 1)), squares, adagrad, 64, 300, start=-1.5),
    Task("swiss_roll-deeptanh-sgd", swiss_roll, deep_tanh, squares, plain, 32, 500, start=-0.5),
    Task("mixture-mlp-nesterov-smoothed", mixture, mixture_gelu, smoothed, nesterov, 64, 300, start=-1),
    Task("mixture-batchnorm-decay", mixture, mixture_norm, classes, plain_decay, 32, 300, start=-0.5),
    Task("digits-deeprelu-momentum", data.digits, deep_relu, classes, momentum, 64, 250, start=-1.5),
    Task("parity-mlp-nesterov-clipped", parity, partial(mlp, (10, 48, 2), nn.GELU), classes, clipped_nesterov, 32, 800, start=-1),
    Task("parity-mlp-adamw", parity, partial(mlp, (10, 48, 48, 2)), classes, adamw_decay, 32, 600),
    Task("mixture-deeprelu-momentum", mixture, mixture_relu, classes, momentum, 32, 400, start=-1.5),
    Task("moons-deeptanh-momentum", moons, moons_tanh, classes, momentum, 32, 600, start=-1.5),
    Task("swiss_roll-deeptanh-momentum", swiss_roll, deep_tanh, squares, momentum, 32, 500, start=-1.5),
    Task("digits-mlp-lion", data.digits, digit_mlp, smoothed, lion_decay, 64, 300, ALL, start=-3),
    Task("digits-autoencoder-rmsprop", data.digits, digit_coder, reconstruction, rmsprop, 64, 400),
    Task("digits-contrastive-adam", data.digits, encoder, contrastive, adam, 64, 200),
    *batch_sizes("digits-mlp-momentum", data.digits, digit_mlp, 300),
    Task("digits-groupnorm-adam", data.digits, digit_conv, classes, adam, 32, 150),
    fine_tuning("digits-newhead-adamw", high_digits, digit_net, classes, adamw_decay, 32, 100),
    fine_tuning("digits-frozen-momentum", high_digits, frozen_digit_net, classes, momentum, 32, 150, start=-1),
    Task("mnist1d-conv-momentum", data.mnist1d, signal_conv, classes, momentum, 64, 400, start=-1.5),
    Task("digits-mixer-adamw", data.digits, Mixer, classes, adamw_decay, 64, 150),
    Task("sorting-attention-adamw", sorting, Sorter, tokens, adamw, 32, 300),
    Task("source-gru-adam-clipped", data.source, Recurrent, next_character_loss, clipped_adam, 16, 200),
    Task("source-transformer-adamw", data.source, transformer, next_character_loss, adamw_decay, 16, 200, ALL),
    fine_tuning("shout-finetune-adamw", data.shout, language_model, next_character_loss, adamw, 16, 150, ALL, start=-3),
]

HELD_BACK = [
    *batch_sizes("breast_cancer-mlp-momentum", data.breast_cancer, cancer_mlp, 300),
    Task("breast_cancer-linear-sgd", data.breast_cancer, cancer_linear, classes, plain, 16, 400, start=-0.5),
    Task("diabetes-mlp-adam", data.diabetes, partial(mlp, (10, 32, 32, 1)), squares, adam, 32, 400, ALL),
    Task("diabetes-gaussian-rmsprop", data.diabetes, partial(mlp, (10, 24, 2)), gaussian, rmsprop, 32, 300),
    Task("circles-deeptanh-momentum", circles, circles_tanh, classes, momentum, 32, 600, ALL, start=-1.5),
    Task("modular-mlp-adamw", data.modular, partial(mlp, (8, 64, 64, 31)), classes, adamw_decay, 32, 600),
    Task("modular-mlp-nesterov-clipped", data.modular, partial(mlp, (8, 64, 31), nn.GELU), classes, clipped_nesterov, 64, 800, start=-1),
    Task("patches-denoising-adam", data.patches, denoiser, denoising, adam, 64, 400, ALL),
    Task("patches-autoencoder-momentum", data.patches, patch_coder, reconstruction, momentum, 64, 400, start=-1),
    Task("patches-contrastive-lion", data.patches, encoder, contrastive, lion, 64, 250, start=-3),
    Task("patches-batchnorm-nesterov", data.patches, patch_conv, classes, nesterov_decay, 32, 250, start=-1),
    Task("prose-transformer-nadam", data.prose, transformer, next_character_loss, nadam, 16, 200),
    Task("prose-gru-momentum-clipped", data.prose, Recurrent, next_character_loss, clipped_momentum, 16, 200, start=0),
    fine_tuning("prose-finetune-adamw", data.little_prose, language_model, next_character_loss, adamw, 16, 150, ALL, start=-3),
    fine_tuning("prose-finetune-sgd", data.little_prose, language_model, next_character_loss, momentum, 16, 150, start=-1.5),
    fine_tuning("prose-top-adam", data.little_prose, language_model_top, next_character_loss, adam, 16, 150),
]

LONG = [
    Task("mixture-mislabelled-adam", mislabelled, partial(mlp, (24, 64, 20)), classes, adam, 32, 1500),
    Task("breast_cancer-dropout-adamw", data.breast_cancer, cancer_dropout, classes, adamw_decay, 32, 1200),
    Task("friedman-mlp-nadam-long", friedman, friedman_net, squares, nadam, 32, 2000),
    Task("tabular-tanh-momentum-long", tabular, tabular_tanh, squares, momentum, 64, 2000, start=-1.5),
    Task("moons-mlp-sgd-fresh", fresh_moons, moons_net, classes, plain, 8, 3000, start=-0.5),
    Task("patches-denoising-adamw-long", data.patches, small_denoiser, denoising, adamw_decay, 32, 2000),
    Task("mnist1d-dropout-adam-long", data.mnist1d, signal_dropout, classes, adam, 64, 2000),
    Task("circles-mlp-adam-fresh", fresh_circles, partial(mlp, (2, 16, 2)), classes, adam, 16, 10_000),
    Task("mixture-linear-sgd-fresh", fresh_mixture, mixture_linear, classes, plain, 16, 30_000, start=-0.5),
]

TASKS = {task.name: task for task in (*FITTED, *HELD_BACK, *LONG)}
