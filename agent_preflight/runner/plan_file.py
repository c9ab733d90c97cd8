"""plan.json: what a run is to do, as a later sweep and a later resume need it. Pure.

No secret, no prompt and no argument of an agent stands in it: of those there is a digest, so that a change is seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agent_preflight.runner.plan import Surroundings, TrialPlan
from agent_preflight.usd import usd

DIGEST_CHARS = 16
OF_EACH_TRIAL = ("model_id", "budget_usd", "command")
"""What makes a trial of the same alias another trial."""
NOT_COMPARED = frozenset({"schema", "run_id", "created_at", "resumed_at", "trials"})
HIDDEN = frozenset({"env", "prompt", "command"})
"""Digests: that they differ is all that can be said."""


def plan_document(run_id: str, trials: Sequence[TrialPlan], around: Surroundings, created_at: str) -> dict[str, Any]:
    """Return plan.json."""
    return {
        "schema": 1,
        "run_id": run_id,
        "created_at": created_at,
        "sandbox": around.sandbox,
        "image": around.image,
        "network": around.network,
        **around.reach.document(),
        "mounts": list(around.mounts),
        "docker_args": list(around.docker_args),
        "memory": around.memory,
        "cpus": around.cpus,
        "workspace_path": around.workspace_path,
        "budget_mode": around.budget_mode,
        "timeout_s": around.timeout_s,
        "stdin": None if around.stdin == "auto" else around.stdin,  # as in plans of before there was a choice
        "env_names": sorted(around.env or {}),
        "env": _digest(dict(around.env or {})),
        "prompt": _digest(around.initial_prompt),
        "trials": [_trial(trial) for trial in trials],
    }


def _trial(trial: TrialPlan) -> dict[str, Any]:
    return {
        "alias": trial.alias,
        "model_id": trial.model_id,
        "budget_usd": str(usd(trial.budget_pusd)),
        "key_name": trial.key_name,
        "command": _digest(trial.command),
    }


def _digest(value: object) -> str | None:
    """A digest of a value that must not stand in a file; None for None."""
    if value is None:
        return None
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGEST_CHARS]


def plan_differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return in what a plan differs from the one of the run that is to go on, a line each; none if it is the same.

    Args:
        stored: What the run's plan.json says; of several trials of one alias the last counts.
        wanted: What plan.json would be now.
    """
    return [*_of_all(stored, wanted), *_of_trials(_by_alias(stored), _by_alias(wanted))]


def _of_all(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for name, value in wanted.items():
        if name not in NOT_COMPARED and stored.get(name) != value:
            yield _line(name, stored.get(name), value)


def _of_trials(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for alias in [*stored, *(alias for alias in wanted if alias not in stored)]:
        before, now = stored.get(alias), wanted.get(alias)
        if before is None or now is None:
            yield f"trial {alias}: " + ("not in the run's plan" if before is None else "left out now")
            continue
        for name in OF_EACH_TRIAL:
            if before.get(name) != now.get(name):
                yield f"trial {alias}: " + _line(name, before.get(name), now.get(name))


def _line(name: str, before: object, now: object) -> str:
    if name in HIDDEN:
        return f"{name}: changed (only digests are kept)"
    return f"{name}: was {json.dumps(before)}, is {json.dumps(now)}"


def _by_alias(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    trials = document.get("trials")
    found = trials if isinstance(trials, list) else []
    return {str(each["alias"]): each for each in found if isinstance(each, dict) and "alias" in each}
