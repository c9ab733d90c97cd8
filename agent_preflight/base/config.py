"""Reads environment variables. No other module of the host half does.

Nothing is kept between calls, so a script may set a variable before it starts a run.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from agent_preflight.base.usd import read_usd
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

__all__ = ["ConfigError", "Environment", "base_url", "child_environment", "environment_without_keys", "variable"]

DEFAULT_BUDGET_USD = Decimal("0.25")
"""Dollars per model by default."""

_OF_OPENROUTER = re.compile(r"OPENROUTER.*|OR_.*KEY", re.DOTALL)
ADMIN_KEY_VARIABLES = ("OR_ADMIN_KEY", "OPENROUTER_ADMIN_KEY")
"""Variables of the management key. The first that is set counts."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables that agent-preflight knows, at one moment. An empty one counts as unset."""

    base_url: str | None = None
    admin_key: Secret | None = None
    api_key: Secret | None = None
    models: tuple[str, ...] = ()
    budget: str | None = None
    gate_base: str | None = None

    @classmethod
    def read(cls, variables: Mapping[str, str] | None = None) -> Self:
        """Read the known variables, from the process's environment unless a mapping is given."""
        values = _environ() if variables is None else variables
        models = (model.strip() for model in values.get("PREFLIGHT_MODELS", "").split(","))
        return cls(
            base_url=values.get("OPENROUTER_BASE_URL") or None,
            admin_key=_secret(next(filter(None, map(values.get, ADMIN_KEY_VARIABLES)), None)),
            api_key=_secret(values.get("OPENROUTER_API_KEY")),
            models=tuple(filter(None, models)),
            budget=values.get("PREFLIGHT_BUDGET") or None,
            gate_base=values.get("PREFLIGHT_GATE_BASE") or None,
        )

    def budget_usd(self) -> Decimal:
        """Return dollars per model; `DEFAULT_BUDGET_USD` if unset.

        Raises:
            ConfigError: PREFLIGHT_BUDGET is not a positive number of dollars.
        """
        if self.budget is None:
            return DEFAULT_BUDGET_USD
        try:
            return read_usd(self.budget)
        except ValueError as exc:
            raise ConfigError(f"PREFLIGHT_BUDGET is {exc}, not {self.budget[:40]!r}.") from None

    def preflight_inputs(self) -> tuple[Secret, Secret, tuple[str, ...], Decimal]:
        """Return what the command `preflight` needs: the management key, the inference key, the models and the budget.

        Raises:
            ConfigError: A variable is missing or malformed. They are checked in the order of the result.
        """
        if self.admin_key is None:
            raise ConfigError(f"Set {' or '.join(ADMIN_KEY_VARIABLES)} to a management key of OpenRouter.")
        if self.api_key is None:
            raise ConfigError("Set OPENROUTER_API_KEY to an inference key of OpenRouter.")
        if not self.models:
            raise ConfigError("Set PREFLIGHT_MODELS to model ids, separated by commas.")
        return self.admin_key, self.api_key, self.models, self.budget_usd()


def base_url() -> str | None:
    """Return OPENROUTER_BASE_URL; None if it is unset or empty."""
    return variable("OPENROUTER_BASE_URL") or None


def variable(name: str) -> str | None:
    """Return a variable of this process as it is now; None if it is unset."""
    return _environ().get(name)


def child_environment() -> dict[str, str]:
    """Return a copy of the whole environment, for a process that we start on this machine."""
    return dict(_environ())


def environment_without_keys() -> dict[str, str]:
    """Return the environment without OpenRouter's keys and addresses, for a command of the user beside a run."""
    return {name: text for name, text in _environ().items() if _OF_OPENROUTER.fullmatch(name) is None}


def _environ() -> Mapping[str, str]:
    return os.environ  # noqa: TID251 - only this module reads the environment


def _secret(value: str | None) -> Secret | None:
    return Secret(value) if value else None
