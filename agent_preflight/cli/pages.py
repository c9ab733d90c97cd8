"""Commands that show runs as pages: `report` writes them to one file, `ui` serves them to a browser of this machine."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_preflight.artifacts import read_start
from agent_preflight.base.console import say
from agent_preflight.cli.shared import RunsDir, argument, complete_run_ids, option
from preflight_proxy.core.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

GENERATOR = b'<meta name="generator" content="agent-preflight report">'
"""By this a report is known as ours. It stands in its first bytes."""
HEAD_BYTES = 512
STANDARD_OUTPUT = Path("-")
RUNS_HELP = "The runs. Several are compared.  [default: the only live one, else the latest]"
OUTPUT_HELP = "Where it is written; - for standard output.  [default: RUN_ID.html]"


def report(
    run_ids: Annotated[list[str] | None, argument("RUN_ID...", RUNS_HELP, complete_run_ids)] = None,
    output: Annotated[Path | None, option("FILE", OUTPUT_HELP, "--output", "-o")] = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Write a report of a run, or of several, as one HTML file.

    It says who did best for the dollar, how sure that is, whether it was fair, and where the money went. The file has no script
    and loads nothing, so it opens anywhere, and it prints. A report of a run that is going on says how it stands now.

    Example: agent-preflight report run-20270131-120000 -o refactor.html
    """
    from agent_preflight.figures.run_figures import page_figures
    from agent_preflight.runs.choice import run_to_read
    from agent_preflight.runs.record import read_record

    page = page_module()
    at_s = datetime.now(UTC).timestamp()
    names: list[str | None] = [*dict.fromkeys(run_ids or [])] or [None]
    folders = (run_to_read(name, runs_dir) for name in names)
    runs = [page_figures(read_record(folder), at_s) for folder in folders if folder is not None]
    if not runs:
        raise ConfigError(f"No runs found in {runs_dir}/. `agent-preflight run` begins one; or name a --runs-dir.")
    html = page.report_html(runs, at_s)
    if output == STANDARD_OUTPUT:
        sys.stdout.write(html)
        return
    path = output or Path(f"{runs[0].table.run_id}{'-and-others' if len(runs) > 1 else ''}.html")
    write_report(path, html)
    say(str(path))


def ui(
    run_id: Annotated[
        str | None, argument("RUN_ID", "The run whose page is opened.  [default: the list of runs]", complete_run_ids)
    ] = None,
    runs_dir: RunsDir = Path("runs"),
    port: Annotated[
        int, typer.Option(metavar="N", min=0, max=65535, help="The port on 127.0.0.1; 0 takes a free one.")
    ] = 0,
    no_open: Annotated[bool, typer.Option("--no-open", help="Print the address, and open no browser.")] = False,
) -> None:
    """Show runs in a browser, live: their trials and calls.

    Serves this machine only, and only whoever has the address that is printed: it has a secret, which is new at each start. The
    pages change nothing. Ctrl-C ends it, with exit code 0.

    Example: agent-preflight ui run-20270131-120000
    """
    import asyncio
    import os
    import threading
    import webbrowser

    from agent_preflight.runs.choice import named_run

    page_module()
    from agent_preflight.views.live_pages import LivePages, View
    from agent_preflight.views.server import serve_until_stopped

    path = View(None if run_id is None else named_run(run_id, runs_dir).name).path

    def begun(lasting: str, once: str) -> None:
        say(f"{lasting}{path}  (Ctrl-C ends it)")
        if not no_open:  # a browser in the terminal would keep us waiting
            threading.Thread(target=webbrowser.open, args=(f"{once}{path}",), daemon=True).start()

    try:
        asyncio.run(serve_until_stopped(LivePages(runs_dir), port, begun))
    except OSError as exc:
        raise ConfigError(
            f"Port {port} on 127.0.0.1 cannot be used: {os.strerror(exc.errno or 0)}. Choose another with --port."
        ) from exc


def page_module() -> ModuleType:
    """Return the module that makes pages.

    Raises:
        ConfigError: jinja2 is missing.
    """
    try:
        from agent_preflight.views import page
    except ModuleNotFoundError as exc:
        if (exc.name or "").partition(".")[0] not in ("jinja2", "markupsafe"):
            raise
        raise ConfigError("Pages need jinja2: pip install jinja2") from exc
    return page


def write_report(path: Path, html: str) -> None:
    """Write a report, or replace an earlier one, as a whole.

    Raises:
        ConfigError: There is a file, or something else, that is no report of ours. It stands.
        OSError: It cannot be written; an earlier report stands.
    """
    from preflight_proxy.base.atomic_file import replace_file

    if path.exists() and not _is_report(path):
        raise ConfigError(f"{path} exists and is no report of agent-preflight. Name another with -o, or remove it.")
    try:
        replace_file(path, html.encode("utf-8"), mode=0o644)
    except OSError as exc:
        raise OSError(exc.errno, exc.strerror, str(path)) from exc  # not the name of a draft beside it


def _is_report(path: Path) -> bool:
    return GENERATOR in (read_start(path.resolve().parent, path.resolve().name, HEAD_BYTES) or b"")
