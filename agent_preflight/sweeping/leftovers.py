"""What a run that is to go on may have left behind: agents, a proxy, containers. All of it is ended before it goes on.

Otherwise an agent would run twice, or two proxies would want one ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from agent_preflight.runs.folder import going_on
from agent_preflight.runs.lock import RunState, hold
from agent_preflight.sandboxes.process import end_orphans
from agent_preflight.sweeping import Swept
from agent_preflight.sweeping.orphan import end_orphan
from agent_preflight.sweeping.remains import remains_of
from preflight_proxy.core.errors import ConfigError

SETTLE_S_MAX = 240.0
"""How long the earlier proxy may take to find out what its last calls cost (M17): only it has the keys to ask with."""
IN_THE_WAY = frozenset({"agent", "gate", "proxy"})


async def end_earlier(run_dir: Path, aliases: Sequence[str], say: Callable[[str], None]) -> None:
    """End the agents and the proxy that outlived a run's runner; what the agents spent is settled when this returns.

    Raises:
        ConfigError: The run is alive, or something of it could not be ended.
    """
    run_dir = run_dir.resolve()
    with hold(run_dir) as state:
        if state is RunState.LIVE:
            raise ConfigError(going_on(run_dir))
        if state is RunState.UNREADABLE:
            return  # opening the folder says why
        for alias in aliases:
            await _end_agent(run_dir, alias, say)
        control = remains_of(run_dir).control
        orphan = None if control is None else await end_orphan(control.socket, SETTLE_S_MAX, dry_run=False)
    if orphan is None:
        return
    if not orphan.gone:
        raise ConfigError(f"The proxy {orphan.name} of {run_dir.name} is still there: {orphan.note}")
    say(f"ended the proxy {orphan.name}, which had outlived its runner")


async def _end_agent(run_dir: Path, alias: str, say: Callable[[str], None]) -> None:
    count, step = await end_orphans(run_dir / alias / "budget" / "budget.txt")
    if step == "failed":
        raise ConfigError(f"The agent {alias} of {run_dir.name} outlived its runner and could not be ended.")
    if count:
        say(f"[{alias}] ended the agent, which had outlived its runner")


def check_gone(run_dir: Path, swept: Swept) -> None:
    """Accept that nothing of the run acts any more.

    Raises:
        ConfigError: Something could not be seen to be gone.
    """
    there = [item.line() for item in swept.left if item.kind in IN_THE_WAY and item.run_dir == run_dir.resolve()]
    if there:
        raise ConfigError(f"The run {run_dir.name} cannot go on while this is still there: {'; '.join(there)}")
