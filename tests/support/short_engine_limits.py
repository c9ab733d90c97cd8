"""Short pauses and limits for tests in which an engine fails or hangs."""

from __future__ import annotations

import pytest

from agent_preflight.docker import container, sandbox
from agent_preflight.engine import client
from agent_preflight.engine.client import Engine

SHORT_S = 0.15


def no_pauses(patch: pytest.MonkeyPatch) -> None:
    """Retry without a pause."""
    for name in ("REMOVE_AGAIN_S", "QUIET_S", "ENGINE_AWAY_S"):
        patch.setattr(container, name, 0.0)


def short_limits(patch: pytest.MonkeyPatch) -> None:
    """Make every call time out soon. Only for tests in which it hangs: a busy machine may be slower than this."""
    for limited in (Engine._call, Engine.put, Engine.look):
        patch.setattr(limited, "__defaults__", (SHORT_S,))
    for module in (client, container):
        for name in (
            "ENGINE_CALL_S_MAX",
            "END_CALL_S_MAX",
            "REMOVE_CALL_S_MAX",
            "ASK_S_MAX",
            "BUILD_S_MAX",
            "DETACHED_S_MAX",
        ):
            patch.setattr(module, name, SHORT_S, raising=False)
    for name in ("CREATE_ENDS_S_MAX", "CONTAINER_LAST_OUTPUT_S"):
        patch.setattr(sandbox, name, SHORT_S)
    patch.setattr(container, "TERM_S", SHORT_S)
