"""The functions that a script may replace by assigning to the package.

``agent_preflight.get_usage``, ``.provision_key``, ``.get_available_models`` and ``.get_account_balance`` are looked up
at each call, so that a replacement holds for all that the library does from then on.
"""

import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def in_force(function: Callable[P, R]) -> Callable[P, R]:
    """Return the package's replacement for a function of that name, else the function itself.

    What is assigned but cannot be called is ignored.
    """
    replacement = _replacement(function)
    return cast(Callable[P, R], replacement) if callable(replacement) else function


def is_replaced(function: Callable[P, R]) -> bool:
    """Tell whether a script has put another function in this one's place."""
    return in_force(function) is not function


def _replacement(function: Callable[P, R]) -> object:
    package = sys.modules.get(__package__ or "")
    return vars(package).get(getattr(function, "__name__", "")) if package else None
