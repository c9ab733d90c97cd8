"""The one home of the environment: variables are read here, at the edge, and handed on as values.

Nothing is remembered between calls: a script that sets a variable before it starts a run is heard.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from agent_preflight.base.usd import read_usd
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

__all__ = ["ConfigError", "Environment", "PreflightInputs", "base_url", "child_environment", "is_present", "variable"]

DEFAULT_BUDGET_USD = Decimal("0.25")
"""Dollars per model where nobody says otherwise."""

ADMIN_KEY_VARIABLES = ("OR_ADMIN_KEY", "OPENROUTER_ADMIN_KEY")
"""Names of the management key, first match wins."""


@dataclass(frozen=True, slots=True)
class PreflightInputs:
    """What the command ``preflight`` needs, complete and checked."""

    admin_key: Secret
    api_key: Secret
    models: tuple[str, ...]
    budget_usd: Decimal


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables that agent-preflight knows, as they were at one moment; an empty one counts as unset."""

    base_url: str | None = None
    admin_key: Secret | None = None
    api_key: Secret | None = None
    models: tuple[str, ...] = ()
    budget: str | None = None
    gate_base: str | None = None

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Self:
        """Read the known variables, from the process's environment unless a mapping is given."""
        found = _environ() if variables is None else variables
        models = (model.strip() for model in found.get("PREFLIGHT_MODELS", "").split(","))
        return cls(
            base_url=found.get("OPENROUTER_BASE_URL") or None,
            admin_key=_secret(next(filter(None, map(found.get, ADMIN_KEY_VARIABLES)), None)),
            api_key=_secret(found.get("OPENROUTER_API_KEY")),
            models=tuple(filter(None, models)),
            budget=found.get("PREFLIGHT_BUDGET") or None,
            gate_base=found.get("PREFLIGHT_GATE_BASE") or None,
        )

    def budget_usd(self) -> Decimal:
        """Return dollars per model, `DEFAULT_BUDGET_USD` where unset.

        Raises:
            ConfigError: PREFLIGHT_BUDGET is not a positive number of dollars.
        """
        if self.budget is None:
            return DEFAULT_BUDGET_USD
        try:
            return read_usd(self.budget)
        except ValueError as exc:
            raise ConfigError(f"PREFLIGHT_BUDGET is {exc}, not {self.budget[:40]!r}.") from None

    def preflight_inputs(self) -> PreflightInputs:
        """Return all that the command ``preflight`` needs.

        Raises:
            ConfigError: a variable is missing (asked for in the order admin key, key, models) or malformed.
        """
        if self.admin_key is None:
            raise ConfigError(f"Set {' or '.join(ADMIN_KEY_VARIABLES)} to a management key of OpenRouter.")
        if self.api_key is None:
            raise ConfigError("Set OPENROUTER_API_KEY to an inference key of OpenRouter.")
        if not self.models:
            raise ConfigError("Set PREFLIGHT_MODELS to model ids, separated by commas.")
        return PreflightInputs(self.admin_key, self.api_key, self.models, self.budget_usd())


def base_url() -> str | None:
    """Return OPENROUTER_BASE_URL, None where it is unset or empty."""
    return variable("OPENROUTER_BASE_URL") or None


def variable(name: str) -> str | None:
    """Return one variable of the process as it is now, None where it is unset."""
    return _environ().get(name)


def is_present(name: str) -> bool:
    """Tell whether a variable is set, be it to an empty text."""
    return name in _environ()


def child_environment() -> dict[str, str]:
    """Return a copy of the whole environment, for a process that we start on this machine."""
    return dict(_environ())


def _environ() -> Mapping[str, str]:
    return os.environ  # noqa: TID251 - this module is the one home of the environment


def _secret(value: str | None) -> Secret | None:
    return Secret(value) if value else None
