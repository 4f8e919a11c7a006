"""Which learning rate: a range test and the curvature of your own model, on one picture."""

import lazy_loader as _lazy

__version__ = "0.1.0"

# The names and where they live stand in __init__.pyi, once; torch loads when the first one that needs it is used.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
