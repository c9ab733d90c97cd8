"""One policy for each trial: a copy of what the user gave, made before anything costs money."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import cast

from agent_preflight.eject import EjectPolicy, default_eject_policies
from preflight_proxy.core.errors import ConfigError

PolicyGiven = EjectPolicy | Callable[[], EjectPolicy] | None


def policy_for_trial(given: PolicyGiven, idle_timeout_s: float) -> EjectPolicy:
    """Return a policy that no other trial shares.

    Args:
        given: A policy (anything with its `check`), which is copied deeply; a factory without arguments (a class too);
            None for the defaults.
        idle_timeout_s: For the defaults.

    Raises:
        ConfigError: The policy cannot be copied, or it is neither a policy nor a factory.
    """
    if given is None:
        return default_eject_policies(idle_timeout_s)
    if isinstance(given, type) or not hasattr(given, "check"):
        if not callable(given):
            raise ConfigError(f"eject_policy must be a policy or a function that makes one, not {given!r}.")
        return given()
    try:
        return cast(EjectPolicy, copy.deepcopy(given))
    except Exception as exc:
        raise ConfigError(
            f"eject_policy cannot be copied for each trial ({type(exc).__name__}: {exc}): "
            "give a function without arguments that makes a new one."
        ) from exc
