"""Adapters, one for each framework: its objects become arguments of ``find_lr``. Imported by full path only, as each needs its extra."""
