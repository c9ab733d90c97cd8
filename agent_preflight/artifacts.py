"""Reads what a run leaves on disk. An agent may have written some of it, so each read is bounded and follows no link."""

import json
import os
import stat
import string
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "RUNS_DIR",
    "begun_at_s",
    "find_run",
    "json_object",
    "latest_run",
    "number",
    "open_beneath",
    "read_json_object",
    "read_start",
    "render_prompt",
    "run_dirs",
    "summarize_run",
    "trial_dirs",
]

RUNS_DIR = Path("runs")
"""The folder of runs, `runs`, in the working directory."""

_BELOW = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""How a file below a run's folder is opened: without following a link, and without waiting for the writer of a pipe."""

SUMMARY_BYTES_MAX = 8 * 2**20
"""The largest summary that is read. Ours have a few kilobytes."""


def render_prompt(template_path: str | Path, **variables: object) -> str:
    """Return the text of a template file with its `{NAME}` places filled in. Doubled braces stand for single ones.

    A place is a name. Conversions and formats such as `{NAME!r}` and `{NAME:.2f}` work. `{NAME.attribute}` and `{NAME[key]}` are
    refused, so that a template cannot read attributes of a value.

    Args:
        template_path: The file, in UTF-8.
        **variables: The values by name. Unused ones are ignored.

    Raises:
        FileNotFoundError: There is no such file.
        KeyError: A variable is missing; the text names it.
        ValueError: A place is malformed, has no name, or reaches into a value.
    """
    return _Template().vformat(Path(template_path).read_text(encoding="utf-8"), (), variables)


class _Template(string.Formatter):
    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Any, str]:
        if not field_name.isidentifier():
            raise ValueError(f"a place in a template is {{NAME}}, not {{{field_name}}}")
        if field_name not in kwargs:
            raise KeyError(f"Missing template variable: {field_name}")
        return kwargs[field_name], field_name


def latest_run(runs_dir: str | Path = RUNS_DIR) -> Path | None:
    """Return the folder of the run that was started or resumed last; None if there is none.

    Args:
        runs_dir: The folder that has the runs.
    """
    return next(iter(run_dirs(runs_dir)), None)


def run_dirs(runs_dir: str | Path = RUNS_DIR) -> list[Path]:
    """Return the folders of all runs. The run that was started or resumed last comes first."""
    return sorted(_subdirectories(Path(runs_dir)), key=begun_at_s, reverse=True)


def begun_at_s(run: Path) -> float:
    """Return when a run was started or resumed last, in seconds since the epoch.

    The time of the folder itself does not say it: reading the ledger in it changes that.
    """
    for name in ("plan.json", "lock", ""):
        try:
            return (run / name).lstat().st_mtime
        except OSError:
            continue
    return 0.0


def find_run(run_id: str, runs_dir: str | Path = RUNS_DIR) -> Path | None:
    """Return the folder of a run; None if there is none.

    An id is the name of one folder. One that leads out of `runs_dir` finds nothing.
    """
    if run_id in ("", ".", "..") or Path(run_id).name != run_id:
        return None
    run = Path(runs_dir) / run_id
    return run if run.is_dir() and not run.is_symlink() else None


def trial_dirs(run_dir: str | Path) -> list[Path]:
    """Return the folders of a run's trials, sorted by name. The folder of a trial has none: what is in it belongs to the agent."""
    if (Path(run_dir) / "events.jsonl").exists():
        return []
    return sorted(_subdirectories(Path(run_dir)))


def summarize_run(run_dir: str | Path) -> dict[str, Any]:
    """Return sums over the trials of a run. A summary.json that cannot be read is skipped.

    Args:
        run_dir: The run's folder.

    Returns:
        A dict of `total_cost` in dollars, 4 decimals, an unknown cost counted as 0; `total_tools`, the number of tool calls;
        `cache_hit_rate` as a fraction, 4 decimals; `cached_tokens`; and `errors`, a list of `(alias, text)`.
    """
    read = {trial.name: read_json_object(trial, "summary.json") for trial in trial_dirs(run_dir)}
    summaries = {alias: summary for alias, summary in read.items() if summary is not None}
    caches = [cache for s in summaries.values() if isinstance(cache := s.get("cache"), dict)]
    prompt, cached = (sum(number(c.get(n)) for c in caches) for n in ("total_prompt_tokens", "cached_tokens"))
    return {
        "total_cost": round(float(sum(number(s.get("cost_usd")) for s in summaries.values())), 4),
        "total_tools": sum(number(s.get("tool_calls")) for s in summaries.values()),
        "cache_hit_rate": round(cached / prompt, 4) if prompt else 0.0,
        "cached_tokens": cached,
        "errors": [(alias, s["error"]) for alias, s in summaries.items() if s.get("error")],
    }


def number(value: object) -> int | float:
    """Return a number from a file; 0 for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**63:
        return 0
    return value


def read_json_object(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the object in a JSON file; None if the file is missing, corrupt, too large or a link."""
    content = read_start(folder, name, SUMMARY_BYTES_MAX + 1)
    return None if content is None or len(content) > SUMMARY_BYTES_MAX else json_object(content)


def json_object(content: bytes) -> dict[str, Any] | None:
    """Return the object that JSON text holds; None if it is no valid JSON, or no object."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_start(folder: Path, name: str, bytes_max: int) -> bytes | None:
    """Return the first `bytes_max` bytes of a file in a run's folder.

    Args:
        folder: The folder. It may be a link.
        name: A path in it; no part may be a link.
        bytes_max: How many bytes are read at most.

    Returns:
        The bytes; None if there is no such regular file.
    """
    try:
        with open_beneath(folder, name) as file:
            return file.read(bytes_max)
    except OSError:
        return None


def open_beneath(folder: Path, name: str) -> BinaryIO:
    """Open a regular file in a run's folder for reading.

    Args:
        folder: The folder. It may be a link.
        name: A path in it; no part may be a link.

    Raises:
        OSError: There is no such regular file, or a part of its name is a link.
    """
    file = _opened(folder, name)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileNotFoundError(f"{name} is no regular file")
    return file


def _opened(folder: Path, name: str) -> BinaryIO:
    *parents, last = name.split("/")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parents:
            child = os.open(parent, _BELOW | os.O_DIRECTORY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = child
        return os.fdopen(os.open(last, _BELOW, dir_fd=descriptor), "rb")
    finally:
        os.close(descriptor)


def _subdirectories(folder: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield Path(entry.path)
