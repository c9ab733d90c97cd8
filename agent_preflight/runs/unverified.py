"""Clean-up steps that were not seen to have worked, told in a line. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SUB_KEY = "sub_key"
"""The step that deletes a trial's key; see `runner.trial.CleanUp`."""


def unverified_line(cleanups: Sequence[Mapping[str, Any]], where: str = "") -> str | None:
    """Return what is not verified of the trials' clean-up, and what to do; None if all of it is.

    Args:
        cleanups: The steps of each trial, as `preflight.cleanup` in its summary has them.
        where: The option that names the runs' folder, with a space before it.
    """
    open_steps = [[step for step, how in steps.items() if how != "ok"] for steps in cleanups]
    count, keys = sum(map(bool, open_steps)), sum(SUB_KEY in steps for steps in open_steps)
    if not count:
        return None
    others = list(dict.fromkeys(step for steps in open_steps for step in steps if step != SUB_KEY))
    told = [_keys(keys)] if keys else []
    told += [f"{'also ' if keys else ''}not verified: {', '.join(others)}"] if others else []
    of = "1 trial" if count == 1 else f"{count} trials"
    return f"The clean-up of {of} is not verified ({'; '.join(told)}). Run `agent-preflight sweep{where}`."


def _keys(count: int) -> str:
    if count == 1:
        return "1 key was not seen to be deleted; it ends by itself within 7 days"
    return f"{count} keys were not seen to be deleted; they end by themselves within 7 days"
