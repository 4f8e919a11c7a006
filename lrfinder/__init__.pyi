from .combine import suggest_lr as suggest_lr
from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .curve import LRCurve as LRCurve
from .doubts import Doubt as Doubt
from .doubts import NoSuggestionError as NoSuggestionError
from .find import find_lr as find_lr
from .loop import LRSweep as LRSweep
from .plotting import plot as plot
from .plotting_schedule import plot_schedule as plot_schedule
from .results import Suggestion as Suggestion
from .results import load as load
from .rules import rule as rule
from .schedules import clr as clr
from .schedules import constant as constant
from .schedules import linear as linear
from .schedules import one_cycle as one_cycle
from .schedules import sgdr as sgdr
from .sweep import range_test as range_test

__all__ = [
    "Comparison",
    "Doubt",
    "LRCurve",
    "LRSweep",
    "NoSuggestionError",
    "Suggestion",
    "clr",
    "compare",
    "constant",
    "find_lr",
    "linear",
    "load",
    "one_cycle",
    "plot",
    "plot_schedule",
    "range_test",
    "rule",
    "sgdr",
    "suggest_lr",
]

__version__: str
