"""How a run stands, from its folder: while it runs, afterwards, and for runs of older versions."""

import fcntl
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_preflight.artifacts import (
    RUNS_DIR,
    find_run,
    latest_run,
    number,
    open_beneath,
    read_json_object,
    read_start,
    trial_dirs,
)
from agent_preflight.console import say
from agent_preflight.terminal import plain

__all__ = [
    "RUNS_DIR",
    "container_running",
    "latest_run",
    "main",
    "print_status_table",
    "status_main",
    "summarise_model",
]

ROW_KEYS = (
    *("alias", "status", "events", "tool_calls", "cost", "duration_s", "started_at"),
    *("error", "budget", "snapshots", "cache_hit_rate", "running"),
)
"""What `summarise_model` tells, in the order in which scripts print it."""
BUDGET_BYTES_MAX = 4096
NOTE_CHARS = 40
COLUMNS = ("alias", "status", "events", "tools", "snaps", "cost", "cache", "time", "note")
RULE_CHARS = 60

UNFINISHED = ("running", "pending")


@dataclass(slots=True)
class _EventFacts:
    """What the event log tells of a trial that has no summary."""

    count: int = 0
    tool_calls: int = 0
    started_at: str | None = None
    last_at: str | None = None
    elapsed_s: float | None = None


def summarise_model(model_dir: str | Path) -> dict[str, Any]:
    """Return how one trial stands.

    Keys: `ROW_KEYS`, in that order.
    ``status`` is ``DONE``, ``ERR``, ``running`` or ``pending``; a corrupt summary counts as none.
    """
    folder = Path(model_dir)
    summary = read_json_object(folder, "summary.json")
    events = _read_events(folder)
    row = _finished(summary) if summary is not None else _unfinished(folder, events)
    row |= {"alias": folder.name, "events": events.count, "running": row["status"] == "running"}
    row |= {"budget": _budget_line(folder), "snapshots": _count_snapshots(folder)}
    return {key: row[key] for key in ROW_KEYS}


def container_running(alias: str, run_dir: str | Path | None = None) -> bool:
    """Tell whether an agent's container of that alias runs, of any run or only of the one in ``run_dir``.

    The alias is compared whole, by the labels that containers carry. Without Docker nothing runs in it.
    """
    from agent_preflight.engine.client import on_engine  # brings the HTTP library, which a table of files does not need
    from agent_preflight.engine.failure import DockerError

    labels: dict[str, str | None] = {"agent-preflight.trial": alias, "agent-preflight.role": "agent"}
    if run_dir is not None:
        labels["agent-preflight.dir"] = str(Path(run_dir).resolve())
    try:
        return bool(on_engine(lambda engine: engine.listed("containers", labels, running=True)))
    except DockerError:
        return False


def print_status_table(run_dir: str | Path) -> None:
    """Print one line for each trial of a run, how many are complete, what those with an error ended by, and notes on others."""
    trials = trial_dirs(run_dir)
    if not trials:
        say("  No model directories found.")
        return
    rows = [summarise_model(trial) for trial in trials]
    for line in _table([_cells(row) for row in rows]):
        say(f"  {line}")
    done = sum(row["status"] not in UNFINISHED for row in rows)
    say()
    say(f"  {done}/{len(rows)} complete")
    for trial, row in zip(trials, rows, strict=True):
        if said := [*filter(None, [row["error"]]), *_notes(trial)]:
            say(f"  {plain(row['alias'])}: {plain('; '.join(said))}")


def status_main(run_id: str | None = None, runs_dir: str | Path = RUNS_DIR) -> None:
    """Print the table of one run, the latest where none is named; say so if there is none."""
    run_dir = find_run(run_id, runs_dir)
    if run_dir is None:
        say(f"  No runs found in {runs_dir}/" + (f" (no run is named {plain(run_id)})" if run_id else ""))
        return
    say()
    say(f"  Run: {plain(run_dir.name)}")
    say("  " + "=" * RULE_CHARS)
    print_status_table(run_dir)
    say()


main = status_main


def _notes(folder: Path) -> list[str]:
    """What a summary notes of an ending beside its error: a budget that is spent, an agent that had no model."""
    match read_json_object(folder, "summary.json"):
        case {"preflight": {"notes": list(notes)}}:
            return [str(note) for note in notes]
    return []


def _finished(summary: dict[str, Any]) -> dict[str, Any]:
    error, cost, cache = summary.get("error"), summary.get("cost_usd"), summary.get("cache")
    return {
        "status": "ERR" if error else "DONE",
        "tool_calls": int(number(summary.get("tool_calls"))),
        "cost": None if cost is None else number(cost),
        "duration_s": number(summary.get("duration_s")),
        "started_at": summary.get("started_at"),
        "error": None if error is None else str(error),
        "cache_hit_rate": number(cache.get("hit_rate")) if isinstance(cache, dict) else 0.0,
    }


def _unfinished(folder: Path, events: _EventFacts) -> dict[str, Any]:
    return {
        "status": "running" if _is_running(folder, events) else "pending",
        "tool_calls": events.tool_calls,
        "cost": None,
        "duration_s": _duration_s(events),
        "started_at": events.started_at,
        "error": None,
        "cache_hit_rate": 0.0,
    }


def _is_running(folder: Path, events: _EventFacts) -> bool:
    """A trial runs if its run is alive and it has begun; else only a container can tell."""
    if _is_locked(folder.parent):
        return events.count > 0
    return container_running(folder.name, folder.parent)


def _is_locked(run_dir: Path) -> bool:
    """Whether some process holds the run: then it is alive, whatever process ids say."""
    try:
        with open_beneath(run_dir, "lock") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _read_events(folder: Path) -> _EventFacts:
    facts = _EventFacts()
    for line in _event_lines(folder):
        facts.count += 1
        facts.tool_calls += b'"tool_execution_start"' in line and _record(line).get("type") == "tool_execution_start"
        last = line
        if facts.count == 1:
            facts.started_at = _text_or_none(_record(line).get("timestamp"))
    if facts.count:
        facts.last_at = _text_or_none(_record(last).get("timestamp"))
        facts.elapsed_s = _record(last).get("elapsed_s")
    return facts


def _event_lines(folder: Path) -> Iterator[bytes]:
    """Yield the whole lines of the event log; what a crash tore is left out."""
    try:
        with open_beneath(folder, "events.jsonl") as file:
            for line in file:
                if line.startswith(b"{") and line.rstrip().endswith(b"}"):
                    yield line
    except OSError:
        return


def _record(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _duration_s(events: _EventFacts) -> int | None:
    if events.elapsed_s is not None:
        return int(number(events.elapsed_s))
    return _seconds_between(events.started_at, events.last_at)


def _seconds_between(start: str | None, end: str | None) -> int | None:
    try:
        moments = [datetime.fromisoformat(text or "") for text in (start, end)]
        return max(int((moments[1] - moments[0]).total_seconds()), 0)
    except (ValueError, TypeError):
        return None


def _budget_line(folder: Path) -> str | None:
    for name in ("budget/budget.txt", "workspace/budget.txt"):
        content = read_start(folder, name, BUDGET_BYTES_MAX)
        if content:
            return plain(content.decode(errors="replace").split("\n", 1)[0]).strip()
    return None


def _count_snapshots(folder: Path) -> int:
    workspace = folder / "workspace"
    return 0 if workspace.is_symlink() else sum(1 for _ in workspace.glob("snapshot_*.py"))


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    cost, rate = row["cost"], row["cache_hit_rate"]
    note = row["budget"] or (f"err: {row['error']}" if row["error"] else "")
    return (
        plain(row["alias"]),
        row["status"],
        str(row["events"]),
        str(row["tool_calls"]),
        str(row["snapshots"]),
        f"${cost:.3f}" if cost else "-",
        f"{rate * 100:.0f}%" if rate else "-",
        _time_cell(row),
        plain(note)[:NOTE_CHARS],
    )


def _time_cell(row: dict[str, Any]) -> str:
    now = datetime.now(UTC).isoformat()
    seconds = _seconds_between(row["started_at"], now) if row["running"] else row["duration_s"]
    if not seconds:
        return "-"
    return f"{int(seconds) // 60}m{int(seconds) % 60:02d}s" + ("*" if row["running"] else "")


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows, strict=True)]
    yield "  ".join(cell.ljust(width) for cell, width in zip(COLUMNS, widths, strict=True))
    yield "─" * (sum(widths) + 2 * (len(widths) - 1))
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))


if __name__ == "__main__":
    main(*sys.argv[1:2])
