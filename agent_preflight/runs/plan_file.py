"""plan.json: what a run is to do, as a later sweep and a later resume need it. Pure.

It has the agents' prompt and arguments in clear, and is private for that. No key stands in it, no value of a variable, and
nothing of a script's own code: of these only names. Where prompt and arguments are too long to keep there are digests of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent_preflight.artifacts import read_json_object
from agent_preflight.base.usd import usd

if TYPE_CHECKING:  # a table of files needs none of what they import
    from agent_preflight.runs.plan import TrialPlan
    from agent_preflight.runs.request import RunRequest

SCHEMA = 2
"""Before it was 1: digests of prompt, arguments and variables only."""
KEPT_BYTES_MAX = 4 * 2**20
"""Of a plan with its texts in clear: half of what is read of such a file."""
DIGEST_CHARS = 16
SHOWN_CHARS = 160
"""Of a value that differs; what both have in common at their beginning is left out where they are longer."""
OF_EACH_TRIAL = ("model_id", "budget_usd", "command")
"""What makes a trial of the same alias another trial."""
COMPARED = {
    "image": "image_name",
    "prompt": "initial_prompt",
    **{name: name for name in ("sandbox", "network", "services", "egress", "mounts", "docker_args", "memory", "cpus")},
    **{name: name for name in ("workspace_path", "budget_mode", "timeout_s", "stdin")},
}
"""Keys of what all trials have in common, and the options that they are; a resume takes these from here."""
MAY_CHANGE = (
    *("gate", "parallel", "max_workers", "idle_timeout_s", "openrouter_base_url", "byok", "skip_preflight"),
    *("keep_output", "output_path", "output_timeout_s", "output_max_bytes", "output_max_files", "output_max_depth"),
    "expect_tokens",
)
"""Options that a resume takes from here unless it is told otherwise, and that need not be the same."""
NOT_COMPARED = frozenset({"schema", "run_id", "created_at", "resumed_at", "digests", "trials", "may_change", "origin"})


def plan_document(run_id: str, trials: Sequence[TrialPlan], request: RunRequest, created_at: str) -> dict[str, Any]:
    """Return plan.json."""
    around = request.around
    document = {
        "schema": SCHEMA,
        "run_id": run_id,
        "created_at": created_at,
        "origin": _origin(request),
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
        "prompt": around.initial_prompt,
        "may_change": {name: getattr(request.settings, name) for name in MAY_CHANGE},
        "trials": [_trial(trial) for trial in trials],
    }
    return document if len(json.dumps(document)) <= KEPT_BYTES_MAX else {**_digested(document), "digests": True}


def _origin(request: RunRequest) -> dict[str, Any]:
    origin = request.origin
    if origin is None:
        return {"by": "script", "functions": request.functions}
    return {
        "by": "command line",
        "directory": None if origin.directory is None else str(origin.directory),
        "config": None if origin.config is None else str(origin.config),
        "env_files": [str(path) for path in origin.env_files],
        "env_from": dict(origin.env_from),
    }


def _trial(trial: TrialPlan) -> dict[str, Any]:
    return {
        "alias": trial.alias,
        "model_id": trial.model_id,
        "budget_usd": str(usd(trial.budget_pusd)),
        "key_name": trial.key_name,
        "command": list(trial.command),
    }


def is_in_clear(plan: Mapping[str, Any]) -> bool:
    """Whether a plan has the prompt and every trial's arguments, so that a run can go on by it alone.

    A digest of the prompt comes with digests of all arguments.
    """
    return all(isinstance(trial.get("command"), list) for trial in by_alias(plan).values())


def _digested(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan with digests in the place of prompt and arguments."""
    trials = [{**trial, "command": _digest(trial["command"])} for trial in document["trials"]]
    return {**document, "prompt": _digest(document["prompt"]), "trials": trials}


def _digest(value: object) -> str | None:
    """A digest of a value that is too long to keep; None for None."""
    if value is None:
        return None
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGEST_CHARS]


def plan_differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Return in what a plan differs from the one of the run that is to go on, a line each; none if it is the same.

    Args:
        stored: What the run's plan.json says; of several trials of one alias the last counts.
        wanted: What plan.json would be now.
    """
    return [*_of_all(stored, wanted), *_of_trials(by_alias(stored), by_alias(wanted))]


def _of_all(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    is_digest = stored.get("schema") == 1 or bool(stored.get("digests"))
    for name, value in wanted.items():
        if name == "prompt":
            yield from _hidden(name, stored.get(name), value, is_digest, bool(wanted.get("digests")))
        elif name not in NOT_COMPARED and stored.get(name) != value:
            yield _line(name, stored.get(name), value)


def _of_trials(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for alias in [*stored, *(alias for alias in wanted if alias not in stored)]:
        before, now = stored.get(alias), wanted.get(alias)
        if before is None or now is None:
            yield f"trial {alias}: " + ("not in the run's plan" if before is None else "left out now")
            continue
        for name in OF_EACH_TRIAL:
            then, value = before.get(name), now.get(name)
            are_digests = name == "command" and isinstance(then, str), isinstance(value, str)
            lines = _hidden(name, then, value, *are_digests) if name == "command" else _plain(name, then, value)
            yield from (f"trial {alias}: {line}" for line in lines)


def _plain(name: str, before: object, now: object) -> Iterator[str]:
    if before != now:
        yield _line(name, before, now)


def _hidden(name: str, before: object, now: object, before_is_digest: bool, now_is_digest: bool) -> Iterator[str]:
    """Compare a value that may be there as a digest only, on either side."""
    if not before_is_digest and not now_is_digest:
        yield from _plain(name, before, now)
    elif (before if before_is_digest else _digest(before)) != (now if now_is_digest else _digest(now)):
        yield f"{name}: changed (only a digest is kept)"


def _line(name: str, before: object, now: object) -> str:
    was, is_ = json.dumps(before), json.dumps(now)
    skipped = 0
    if max(len(was), len(is_)) > SHOWN_CHARS:
        same = next((at for at, (one, other) in enumerate(zip(was, is_, strict=False)) if one != other), 0)
        skipped = max(same - SHOWN_CHARS // 4, 0)
    return f"{name}: was {_part(was, skipped)}, is {_part(is_, skipped)}"


def _part(text: str, skipped: int) -> str:
    part = text[skipped : skipped + SHOWN_CHARS]
    return ("..." if skipped else "") + part + ("..." if skipped + len(part) < len(text) else "")


def by_alias(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return a plan's trials; of several attempts of one alias the last."""
    trials = document.get("trials")
    found = trials if isinstance(trials, list) else []
    return {str(each["alias"]): each for each in found if isinstance(each, dict) and "alias" in each}


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial of a plan.json, as far as it can be read."""

    alias: str
    model_id: str
    budget_usd: str
    key_name: str


def planned_trials(run_dir: Path) -> list[PlannedTrial]:
    """Return the trials of a run's plan, all that were ever planned; the latest of an alias comes last."""
    trials = (read_json_object(run_dir, "plan.json") or {}).get("trials")
    found = (_planned(each) for each in (trials if isinstance(trials, list) else []))
    return [trial for trial in found if trial is not None]


def _planned(trial: object) -> PlannedTrial | None:
    match trial:
        case {"alias": str(alias), "key_name": str(key_name)} if Path(alias).name == alias:
            model_id, budget_usd = trial.get("model_id"), trial.get("budget_usd")  # type: ignore[attr-defined]  # a dict
            return PlannedTrial(alias, str(model_id), str(budget_usd), key_name)
    return None


def trial_folder(run_dir: Path, alias: str) -> Path:
    """Return a trial's folder; a trial that is a run by itself has no other than the run's."""
    single = alias == run_dir.name and not (run_dir / alias).is_dir()
    return run_dir if single else run_dir / alias
