"""What ``torchrun`` starts."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from scaling import program  # noqa: E402

program.main(*sys.argv[1:])
