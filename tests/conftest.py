"""One thread for every test: the models are tiny, and threads that wait for each other are slower than one that works.

Hypothesis may take its time: a busy machine is no failure. It draws the same examples every time, so that a failure is never chance;
``--hypothesis-profile search`` draws others.
"""

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
settings.register_profile("search", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.register_profile("tests", settings.get_profile("search"), derandomize=True)
settings.load_profile("tests")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``pytest tests/fuzz --fuzz-seconds 600`` fuzzes for ten minutes instead of one."""
    parser.addoption("--fuzz-seconds", type=float, default=60.0, help="How long tests/fuzz runs in all.")
