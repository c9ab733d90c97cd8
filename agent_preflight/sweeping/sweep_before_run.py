"""Before a run: remove what dead runs beside it left."""

from __future__ import annotations

from collections.abc import Callable

from agent_preflight.engine.client import Engine
from agent_preflight.sweeping import Scope, Swept, sweep


async def tidy(scope: Scope, say: Callable[[str], None], engine: Engine | None = None) -> Swept:
    """Sweep, and say what was removed and what could not be; whatever goes wrong costs the new run nothing."""
    try:
        swept = await sweep(scope, engine)
    except Exception as exc:
        text = f"could not look for what dead runs left: {type(exc).__name__}: {exc}"
        say(text)
        return Swept(trouble=(text,))
    for item in swept.removed:
        say(f"removed what a dead run left: {item.line()}")
    for item in swept.left:
        say(f"a dead run left, and it is still there: {item.line()}; try `agent-preflight sweep`")
    for text in (*swept.trouble, *swept.notes):
        say(text)
    return swept
