"""One line for every optimizer and setting whose limit is tested: ``make(parameters, lr=...)``.

A limit that is registered in ``hessian.limits`` and has no line here fails the suite. Decay is large enough to move the limit.
"""

from __future__ import annotations

from functools import partial

from torch.optim import SGD, Adam, AdamW, RMSprop

LIMIT_CASES = {
    "sgd": partial(SGD),
    "sgd l2": partial(SGD, weight_decay=20),
    "sgd dampening alone": partial(SGD, dampening=0.5),  # torch ignores it without momentum
    "sgd momentum": partial(SGD, momentum=0.9),
    "sgd small momentum": partial(SGD, momentum=0.3),
    "sgd momentum l2": partial(SGD, momentum=0.9, weight_decay=20),
    "sgd momentum dampening": partial(SGD, momentum=0.9, dampening=0.9),
    "sgd momentum dampening l2": partial(SGD, momentum=0.8, dampening=0.3, weight_decay=20),
    "sgd nesterov": partial(SGD, momentum=0.9, nesterov=True),
    "sgd nesterov l2": partial(SGD, momentum=0.6, nesterov=True, weight_decay=20),
    "adam": partial(Adam),
    "adam betas": partial(Adam, betas=(0.5, 0.99)),
    "adam no momentum": partial(Adam, betas=(0.0, 0.9)),
    "adam much momentum": partial(Adam, betas=(0.98, 0.999)),
    "adam eps": partial(Adam, eps=0.1),
    "adam l2": partial(Adam, weight_decay=20),
    "adam amsgrad": partial(Adam, amsgrad=True),
    "adam amsgrad l2": partial(Adam, amsgrad=True, weight_decay=20),
    "adamw": partial(AdamW, weight_decay=10),
    "adamw default": partial(AdamW),
    "adamw betas": partial(AdamW, betas=(0.6, 0.95), weight_decay=40),
    "adamw amsgrad": partial(AdamW, amsgrad=True, weight_decay=10),
    "rmsprop": partial(RMSprop),
    "rmsprop alpha eps": partial(RMSprop, alpha=0.9, eps=0.1),
    "rmsprop l2": partial(RMSprop, weight_decay=20),
    "rmsprop momentum": partial(RMSprop, momentum=0.9),
    "rmsprop centered": partial(RMSprop, centered=True),
    "rmsprop centered momentum l2": partial(RMSprop, centered=True, momentum=0.7, weight_decay=20),
}
