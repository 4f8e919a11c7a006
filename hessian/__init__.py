"""What the loss looks like where the weights are now: products, eigenvalues, stability limits."""

import lazy_loader as _lazy

# The names and where they live stand in __init__.pyi, once; torch loads when the first one is used.
__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
