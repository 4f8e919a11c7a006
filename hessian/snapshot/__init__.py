"""``preserve``: whatever a measurement touches comes back bit for bit, also after an exception or Ctrl-C.

``reach`` finds what hangs on the objects handed over; one ``keep_*`` function per kind of thing looks now and returns the function
that puts it back; ``guard`` calls them all, with Ctrl-C held back.
"""

from hessian.snapshot.guard import Guard, Snapshot, check_choices, preserve, with_gradients
from hessian.snapshot.keeping import Place, Restore
from hessian.snapshot.randomness import keep_random_state, seed_everything
from hessian.snapshot.signals import Doorkeeper, uninterrupted
from hessian.snapshot.tensors import Layout, keep_tensors

__all__ = [
    "Doorkeeper",
    "Guard",
    "Layout",
    "Place",
    "Restore",
    "Snapshot",
    "check_choices",
    "keep_random_state",
    "keep_tensors",
    "preserve",
    "seed_everything",
    "uninterrupted",
    "with_gradients",
]
