"""The command line. torch and matplotlib load only once there is something to measure or to draw."""

from lrfinder.cli.commands import cli as cli
from lrfinder.cli.ending import main as main
from lrfinder.cli.ending import run as run

__all__ = ["cli", "main", "run"]
