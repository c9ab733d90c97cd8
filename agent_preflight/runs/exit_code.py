"""What a command that ran trials exits with. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agent_preflight.models import RunResult


def exit_code(results: Sequence[RunResult], held_back: Sequence[str] = ()) -> int:
    """Return what a command that ran these trials exits with.

    0: all done (ejected, spent and stopped are outcomes). 1: a trial failed or was cut off, or was held back because the
    account has no credit. 3: drift. 4: overrun. 5: clean-up unverified. The highest that holds of 3-5 wins.
    """
    worst = max((_grave(result.preflight) for result in results), default=0)
    failed = any(result.error is not None and not _is_outcome(result) for result in results)
    return worst or int(failed or bool(held_back))


def _is_outcome(result: RunResult) -> bool:
    """Whether an error is none of the run's: a policy or a person ended the trial."""
    return str(result.error).startswith("ejected: ") or result.preflight.get("status") == "stopped"


def _grave(extra: Mapping[str, Any]) -> int:
    if any(step != "ok" for step in extra.get("cleanup", {}).values()):
        return 5
    if extra.get("overrun_usd", "0") != "0":
        return 4
    return 3 if any(str(text).startswith("drift: ") for text in extra.get("warnings", ())) else 0
