"""`agent-preflight sweep`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent_preflight.cli.group import complain, emit_json
from agent_preflight.cli.options import RunsDir

if TYPE_CHECKING:
    from agent_preflight.sweeping import Leftover, SweepReport
    from agent_preflight.sweeping.run_folders import OldRun

SETTLE_S_MAX = 200.0
"""How long it waits in all for evidence: enough for every call whose end was seen (M13)."""


def sweep(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed.")] = False,
    runs_older_than: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0, help="Remove the folders of runs older than this too.", show_default=False),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before folders are removed.")] = False,
    runs_dir: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Remove what runs that died left behind.

    Removes containers, volumes, keys and sockets. A run is dead when no process holds the lock in its folder; what belongs
    to a live one is never touched. Keys are found by the names in a dead run's plan, and need OR_ADMIN_KEY. Trials without a
    summary get one, from the ledger. Exits with 5 if something is left or could not be looked for.

    Example: agent-preflight sweep --dry-run

    Example: agent-preflight sweep --runs-older-than 30
    """
    import asyncio

    from agent_preflight.base.config import Environment
    from agent_preflight.sweeping import SweepScope
    from agent_preflight.sweeping import sweep as clean

    environment = Environment.read()
    scope = SweepScope(
        runs_dir,
        environment.admin_key,
        environment.base_url,
        everywhere=True,
        dry_run=dry_run,
        settle_s=SETTLE_S_MAX,
    )
    swept = asyncio.run(clean(scope))
    if not as_json:
        _print(swept, dry_run=dry_run)
    old: list[Path] = []
    kept: list[Path] = []
    failed: list[Path] = []
    if runs_older_than is not None:
        old, kept, failed = _folders(runs_dir, runs_older_than, dry_run=dry_run, yes=yes, quiet=as_json)
    if as_json:
        emit_json(json.dumps({**_document(swept, dry_run=dry_run), **_texts(removed_runs=old, kept_runs=kept)}))
    raise typer.Exit(0 if swept.verified and not failed else 5)


def _folders(
    runs_dir: Path, days: float, *, dry_run: bool, yes: bool, quiet: bool
) -> tuple[list[Path], list[Path], list[Path]]:
    """Remove old folders; returns those that are gone (with `dry_run`: would be), those kept, those that could not be."""
    from agent_preflight.base.console import say
    from agent_preflight.sweeping.run_folders import DAY_S, old_runs, remove_run

    found = old_runs(runs_dir, days * DAY_S)
    wanted, kept = [run.path for run in found if run.keep is None], [run.path for run in found if run.keep is not None]
    if not quiet:
        for run in found:
            say(_old_line(run))
    if dry_run or not wanted:
        return wanted, kept, []
    if not yes:
        typer.confirm(
            f"Remove {len(wanted)} folder{'s' if len(wanted) > 1 else ''} with all in them?", abort=True, err=True
        )
    failed = [path for path in wanted if not remove_run(path)]
    for path in failed:
        complain(f"{path} could not be removed")
    return [path for path in wanted if path not in failed], kept, failed


def _old_line(run: OldRun) -> str:
    from agent_preflight.base.terminal import plain
    from agent_preflight.sweeping.run_folders import DAY_S

    return plain(f"{run.path}  {run.age_s / DAY_S:.0f} days old{f'  kept: {run.keep}' if run.keep else ''}")


def _print(swept: SweepReport, *, dry_run: bool) -> None:
    from agent_preflight.base.console import say
    from agent_preflight.base.terminal import plain

    words = {"removed": "would remove" if dry_run else "removed", "left": "LEFT", "live": "live, not touched"}
    words["unreadable"] = "cannot be told dead, not touched"
    for name, word in words.items():
        for item in getattr(swept, name):
            say(plain(f"{word}: {item.line()}"))
    for text in swept.notes:
        say(plain(text))
    for text in swept.trouble:
        complain(text)
    if not (swept.removed or swept.left or swept.trouble):
        say("Nothing to clean up.")


def _document(swept: SweepReport, *, dry_run: bool) -> dict[str, Any]:
    groups = {name: [_row(item) for item in getattr(swept, name)] for name in ("removed", "left", "live", "unreadable")}
    return {"dry_run": dry_run, **groups, "notes": list(swept.notes), "trouble": list(swept.trouble)}


def _row(item: Leftover) -> dict[str, str]:
    where = {"run_dir": str(item.run_dir), "trial": item.trial}
    return {"kind": item.kind, "name": item.name, **where, "note": item.note}


def _texts(**groups: list[Path]) -> dict[str, list[str]]:
    return {name: [str(path) for path in paths] for name, paths in groups.items()}
