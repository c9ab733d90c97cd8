"""Commands about this machine: `sweep` cleans it up, `doctor` examines it, `simulate` serves an offline OpenRouter on it."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from msgspec.structs import asdict

from agent_preflight.base.config import Environment
from agent_preflight.base.console import say
from agent_preflight.cli.shared import RunsDir, complain, emit_json, option
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.terminal import plain

if TYPE_CHECKING:
    from agent_preflight.sweeping import SweepReport

SETTLE_S_MAX = 200.0
"""How long a sweep waits in all for the costs of dead runs. That is enough for every call that has ended: M13 (unknown costs)."""


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
    report = asyncio.run(clean(scope))
    if not as_json:
        _print_sweep(report, dry_run=dry_run)
    removed, kept, failed = (
        ([], [], [])
        if runs_older_than is None
        else _sweep_folders(runs_dir, runs_older_than, dry_run=dry_run, yes=yes, quiet=as_json)
    )
    if as_json:
        items = {
            name: [{**asdict(item), "run_dir": str(item.run_dir)} for item in getattr(report, name)]
            for name in ("removed", "left", "live", "unreadable")
        }
        texts = {"notes": report.notes, "trouble": report.trouble}
        folders = {"removed_runs": list(map(str, removed)), "kept_runs": list(map(str, kept))}
        emit_json({"dry_run": dry_run, **items, **texts, **folders})
    raise typer.Exit(0 if report.verified and not failed else 5)


def _sweep_folders(
    runs_dir: Path, days: float, *, dry_run: bool, yes: bool, quiet: bool
) -> tuple[list[Path], list[Path], list[Path]]:
    """Remove old folders. Returns those that are gone (with `dry_run`: would be), those kept, those that could not be removed."""
    from agent_preflight.sweeping.run_folders import DAY_S, old_runs, remove_run

    old = old_runs(runs_dir, days * DAY_S)
    for run in old if not quiet else ():
        reason = f"  kept: {run.keep}" if run.keep else ""
        say(plain(f"{run.path}  {run.age_s / DAY_S:.0f} days old{reason}"))
    due, kept = [run.path for run in old if run.keep is None], [run.path for run in old if run.keep is not None]
    if dry_run or not due:
        return due, kept, []
    if not yes:
        typer.confirm(f"Remove {len(due)} folder{'s' if len(due) > 1 else ''} with all in them?", abort=True, err=True)
    failed = [path for path in due if not remove_run(path)]
    for path in failed:
        complain(f"{path} could not be removed")
    return [path for path in due if path not in failed], kept, failed


def _print_sweep(report: SweepReport, *, dry_run: bool) -> None:
    words = {"removed": "would remove" if dry_run else "removed", "left": "LEFT", "live": "live, not touched"}
    words["unreadable"] = "not touched, because the folder of its run cannot be opened"
    for name, word in words.items():
        for item in getattr(report, name):
            say(plain(f"{word}: {item.line()}"))
    for text in report.notes:
        say(plain(text))
    for text in report.trouble:
        complain(text)
    if not (report.removed or report.left or report.trouble):
        say("Nothing to clean up.")


def simulate(
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where it listens; port 0 takes a free one.")
    ] = "127.0.0.1:8799",
    scenario: Annotated[Path | None, option("FILE", "A TOML file: what models answer, and what goes wrong.")] = None,
    ready_file: Annotated[Path | None, option("FILE", "Written as JSON once connections are accepted.")] = None,
) -> None:
    """Serve an offline OpenRouter.

    Keys, models, prices, completions; its own exact bill is at /sim/bill.

    Prints the variables that lead a shell to it: OPENROUTER_BASE_URL, OR_ADMIN_KEY, OPENROUTER_API_KEY.

    Example: agent-preflight simulate > simulator.env
    """
    from openrouter_sim.serve import serve
    from preflight_proxy.base.config import host_port

    try:
        host_port(listen if listen.rpartition(":")[0] else f"127.0.0.1:{listen.removeprefix(':')}")
    except ConfigError as exc:
        raise typer.BadParameter(f"--listen: {exc}") from exc
    try:
        serve(listen, scenario, ready_file)
    except OSError as exc:
        place = "" if exc.filename is None else f"{exc.filename}: "
        hint = " Choose another address with --listen." if exc.errno == errno.EADDRINUSE else ""
        raise ConfigError(f"The simulator did not start. {place}{exc.strerror or exc}.{hint}") from exc
    except ValueError as exc:
        raise ConfigError(f"The simulator did not start. {exc}") from exc


def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Ask nobody outside this machine.")] = False,
    no_containers: Annotated[bool, typer.Option("--no-containers", help="Start no container.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say what runs can do on this machine, and why not more.

    Looks at Python, the system's limits, the clock, the container engine; starts a gate as a sealed trial does, to see whether
    its listeners arrive. Prints no key. Exits with 1 if something is a problem for every run.

    Example: agent-preflight doctor --offline
    """
    from agent_preflight.doctor.examine import document, examine, sections_text

    sections = examine(
        containers=not no_containers, clock=not offline, tell=lambda text: None if as_json else say(text)
    )
    report = document(sections)
    if as_json:
        emit_json(report)
    else:
        for line in sections_text(sections, colour=sys.stdout.isatty()):
            say(line)
    raise typer.Exit(0 if report["ok"] else 1)
