"""plan.json: what a run is to do. Sweeps and resumes read it.

It holds the agents' prompt and arguments, so the file is private. Of keys, variables and a script's functions it holds names only.
Prompts and arguments that are too long are replaced by digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agent_preflight.artifacts import read_json_object
from agent_preflight.base.usd import exact, pusd, usd

if TYPE_CHECKING:  # a table of files needs none of what they import
    from agent_preflight.options.settings import RunSettings
    from agent_preflight.runs.plan import TrialPlan
    from agent_preflight.runs.request import RunRequest

SCHEMA = 2
"""Schema 1 had digests of prompt, arguments and variables only."""
PLAN_BYTES_MAX = 4 * 2**20
"""A larger plan gets digests instead of texts. Readers take up to twice as much."""
KEY_HEADROOM_PUSD = pusd("0.01")
"""The least by which a sub-key's limit is above the budget, so that rounding never reaches it: M20 (refusals by OpenRouter)."""
DIGEST_CHARS = 16
SHOWN_CHARS = 160
"""How much of a changed value is shown. For longer values their common beginning is left out."""
OF_EACH_TRIAL = ("model_id", "budget_usd", "command")
"""Fields of a trial that must be the same in a resume."""
COMPARED = {
    "sandbox": "sandbox",
    "image": "image_name",
    **{name: name for name in ("network", "services", "egress", "mounts", "docker_args", "memory", "cpus")},
    **{name: name for name in ("workspace_path", "budget_mode", "timeout_s", "stdin")},
    "prompt": "initial_prompt",
}
"""Keys of plan.json with the options that they hold. A resume takes these options from the file."""
OF_THE_SCORE = {"command": "score", "image": "score_image", "pass": "score_pass", "timeout_s": "score_timeout_s"}
"""Keys of `score` in plan.json with the options that they hold."""
MAY_CHANGE = (
    *("gate", "parallel", "max_workers", "idle_timeout_s", "openrouter_base_url", "byok", "skip_preflight"),
    *("bound", "cache_bound", "weigh", "share_preambles"),
    *("keep_output", "output_path", "output_timeout_s", "output_max_bytes", "output_max_files", "output_max_depth"),
    "expect_tokens",
)
"""Options that a resume takes from the file unless it is given others."""
NOT_COMPARED = frozenset({"schema", "run_id", "created_at", "resumed_at", "digests", "trials", "may_change", "origin"})


def plan_document(run_id: str, trials: Sequence[TrialPlan], request: RunRequest, created_at: str) -> dict[str, Any]:
    """Return plan.json."""
    from agent_preflight.runs.plan import network_access

    settings = request.settings
    options = {key: getattr(settings, name) for key, name in COMPARED.items()}
    document = {
        "schema": SCHEMA,
        "run_id": run_id,
        "created_at": created_at,
        "origin": _origin(request),
        **{key: list(value) if isinstance(value, tuple) else value for key, value in options.items()},
        **network_access(settings).document(),
        "network": settings.agents_network,
        "stdin": None if settings.stdin == "auto" else settings.stdin,  # as in plans of versions without this option
        "env_names": sorted(settings.env or {}),
        "repeats": settings.repeats,
        "tags": dict(settings.tags or {}),
        "score": _score(settings),
        "may_change": {name: getattr(settings, name) for name in MAY_CHANGE},
        "trials": [_trial(trial) for trial in trials],
    }
    return document if len(json.dumps(document)) <= PLAN_BYTES_MAX else {**_digested(document), "digests": True}


def _score(settings: RunSettings) -> dict[str, Any] | None:
    """Return how trials are scored; None if they are not. Of a function it says only that there is one."""
    if settings.score is None:
        return None
    document = {key: getattr(settings, name) for key, name in OF_THE_SCORE.items()} | {"function": False}
    return document | {"command": None, "function": True} if callable(settings.score) else document


def score_options(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the score in a plan, by the keywords of `run_multi`; none if its trials have no score."""
    score = plan.get("score")
    return {name: score.get(key) for key, name in OF_THE_SCORE.items()} if isinstance(score, dict) else {}


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
        "base": trial.base,
        "repeat": trial.repeat,
        "model_id": trial.model_id,
        "budget_usd": str(usd(trial.budget_pusd)),
        "key_name": trial.key_name,
        "key_room_usd": exact(trial.key_room_pusd),
        "command": list(trial.command),
    }


def is_in_clear(plan: Mapping[str, Any]) -> bool:
    """Return whether a plan holds all texts, so that a run can be resumed by it alone.

    If the prompt is a digest, all arguments are too.
    """
    return all(isinstance(trial.get("command"), list) for trial in by_alias(plan).values())


def _digested(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan with digests instead of prompt and arguments."""
    trials = [{**trial, "command": _digest(trial["command"])} for trial in document["trials"]]
    return {**document, "prompt": _digest(document["prompt"]), "trials": trials}


def _digest(value: object) -> str | None:
    """Return a digest of a value; None for None."""
    if value is None:
        return None
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:DIGEST_CHARS]


def plan_differences(stored: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the differences between a stored plan and a new one, a line each.

    Args:
        stored: The run's plan.json. Of several trials of one alias the last counts.
        new: The plan.json of the resume.
    """
    return [*_of_all(stored, new), *_of_trials(by_alias(stored), by_alias(new))]


def _of_all(stored: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    is_digest = stored.get("schema") == 1 or bool(stored.get("digests"))
    stored, new = _compared(stored), _compared(new)
    for name, value in new.items():
        if name not in NOT_COMPARED:
            are_digests = (is_digest, bool(new.get("digests"))) if name == "prompt" else (False, False)
            yield from _change(name, stored.get(name), value, are_digests)


def _compared(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return a plan as it is compared: without the time limit of a score, which may change, and with what older plans lack."""
    score = plan.get("score")
    timeless = {key: value for key, value in score.items() if key != "timeout_s"} if isinstance(score, dict) else score
    return {"repeats": 1, "tags": {}, **plan, "score": timeless}


def _of_trials(stored: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    for alias in [*stored, *(alias for alias in new if alias not in stored)]:
        old_trial, new_trial = stored.get(alias), new.get(alias)
        if old_trial is None or new_trial is None:
            yield f"trial {alias}: " + ("not in the run's plan" if old_trial is None else "left out now")
            continue
        for name in OF_EACH_TRIAL:
            old, value = old_trial.get(name), new_trial.get(name)
            are_digests = name == "command" and isinstance(old, str), name == "command" and isinstance(value, str)
            yield from (f"trial {alias}: {line}" for line in _change(name, old, value, are_digests))


def _change(name: str, old: object, new: object, are_digests: tuple[bool, bool]) -> Iterator[str]:
    """Yield a line if a value has changed. If one of the two is a digest, digests are compared."""
    if any(are_digests):
        old, new = (
            value if is_digest else _digest(value) for value, is_digest in zip((old, new), are_digests, strict=True)
        )
    if old != new:
        yield f"{name}: changed (only a digest is kept)" if any(are_digests) else _line(name, old, new)


def _line(name: str, old: object, new: object) -> str:
    was, is_ = json.dumps(old), json.dumps(new)
    skipped = 0
    if max(len(was), len(is_)) > SHOWN_CHARS:
        same = next((at for at, (one, other) in enumerate(zip(was, is_, strict=False)) if one != other), 0)
        skipped = max(same - SHOWN_CHARS // 4, 0)
    return f"{name}: was {_part(was, skipped)}, is {_part(is_, skipped)}"


def _part(text: str, skipped: int) -> str:
    part = text[skipped : skipped + SHOWN_CHARS]
    return ("..." if skipped else "") + part + ("..." if skipped + len(part) < len(text) else "")


def by_alias(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return a plan's trials by alias; of several attempts of one alias the last."""
    trials = document.get("trials")
    items = trials if isinstance(trials, list) else []
    return {str(each["alias"]): each for each in items if isinstance(each, dict) and "alias" in each}


class PlannedTrial(msgspec.Struct, frozen=True):
    """A trial in a plan.json; its attributes are those of `TrialPlan`.

    Attributes:
        base: The alias of its model, which its repeats share; its own alias in a plan without repeats.
        repeat: Which repeat of its model it is, from 1; 0 in a plan without repeats.
    """

    alias: str
    model_id: str
    budget_usd: str
    key_name: str
    key_room_pusd: int = KEY_HEADROOM_PUSD
    base: str = ""
    repeat: int = 0


def planned_trials(run_dir: Path) -> list[PlannedTrial]:
    """Return all valid trials in a run's plan.json; the latest of an alias comes last."""
    trials = (read_json_object(run_dir, "plan.json") or {}).get("trials")
    readable = (_planned(each) for each in (trials if isinstance(trials, list) else []))
    return [trial for trial in readable if trial is not None]


def _planned(trial: object) -> PlannedTrial | None:
    match trial:
        case {"alias": str(alias), "key_name": str(key_name)} if _is_name(alias):
            model_id, budget_usd = trial.get("model_id"), trial.get("budget_usd")  # type: ignore[attr-defined]  # a dict
            base, repeat = trial.get("base"), trial.get("repeat")  # type: ignore[attr-defined]
            return PlannedTrial(
                *(alias, str(model_id), str(budget_usd), key_name, _room_pusd(trial.get("key_room_usd"))),  # type: ignore[attr-defined]
                base=base if isinstance(base, str) and base else alias,
                repeat=repeat if isinstance(repeat, int) else 0,
            )
    return None


def _is_name(alias: str) -> bool:
    """Return whether an alias can be the name of a folder in the run's."""
    return alias.isprintable() and Path(alias).name == alias != ".." and 0 < len(alias.encode()) < 256


def _room_pusd(written: object) -> int:
    """Return a sub-key's room; the least one for a plan of an earlier version, or a damaged one."""
    try:
        return max(pusd(str(written)), KEY_HEADROOM_PUSD)
    except ArithmeticError:
        return KEY_HEADROOM_PUSD


def trial_folder(run_dir: Path, alias: str) -> Path:
    """Return a trial's folder. That of a trial that is a run by itself is the run's."""
    single = alias == run_dir.name and not (run_dir / alias).is_dir()
    return run_dir if single else run_dir / alias
