"""helixplan: exact, proved Helix-parallelism layouts for long-context LLM decoding.

Everything public is in ``__all__``. Names are imported when first used, so that ``import helixplan`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from helixplan.version import __version__

if TYPE_CHECKING:
    from helixplan.api import compare, estimate, explain, frontier, plan, score
    from helixplan.append import AppendSchedule
    from helixplan.cost.score import Scores
    from helixplan.curves import Comparisons, Frontier
    from helixplan.errors import HelixplanError, InfeasibleError, InputError, NotExpressibleError, RegressionFound
    from helixplan.explanation import Explanation
    from helixplan.inputs.hardware import Hardware, load_hardware
    from helixplan.inputs.huggingface import load_model
    from helixplan.inputs.model import Model
    from helixplan.layout import Layout, Layouts
    from helixplan.plans import Plan

__all__ = [
    "AppendSchedule",
    "Comparisons",
    "Explanation",
    "Frontier",
    "Hardware",
    "HelixplanError",
    "InfeasibleError",
    "InputError",
    "Layout",
    "Layouts",
    "Model",
    "NotExpressibleError",
    "Plan",
    "RegressionFound",
    "Scores",
    "__version__",
    "compare",
    "estimate",
    "explain",
    "frontier",
    "load_hardware",
    "load_model",
    "plan",
    "score",
]

_HOMES = {
    "api": ("compare", "estimate", "explain", "frontier", "plan", "score"),
    "append": ("AppendSchedule",),
    "curves": ("Comparisons", "Frontier"),
    "cost.score": ("Scores",),
    "errors": ("HelixplanError", "InfeasibleError", "InputError", "NotExpressibleError", "RegressionFound"),
    "explanation": ("Explanation",),
    "inputs.hardware": ("Hardware", "load_hardware"),
    "inputs.huggingface": ("load_model",),
    "inputs.model": ("Model",),
    "layout": ("Layout", "Layouts"),
    "plans": ("Plan",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'helixplan' has no attribute {name!r}")
    value = getattr(import_module(f"helixplan.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
