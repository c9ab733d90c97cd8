"""Commands that show runs as pages: `report` writes them to one file."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent_preflight.base.console import say
from agent_preflight.cli.shared import RunsDir, complete_run_ids
from preflight_proxy.core.errors import ConfigError

if TYPE_CHECKING:
    from types import ModuleType

GENERATOR = b'<meta name="generator" content="agent-preflight report">'
"""By this a report is known as ours. It stands in its first bytes."""
HEAD_BYTES = 512
STANDARD_OUTPUT = Path("-")


def report(
    run_ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN_ID...",
            help="The runs. Several are compared.  [default: the only live one, else the latest]",
            show_default=False,
            autocompletion=complete_run_ids,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where it is written; - for standard output.  [default: RUN_ID.html]",
            show_default=False,
        ),
    ] = None,
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
    folders = [run_to_read(name, runs_dir) for name in names]
    runs = [page_figures(read_record(folder), at_s) for folder in folders if folder is not None]
    if not runs:
        raise ConfigError(
            f"No runs found in {runs_dir}/. `agent-preflight run` begins one; --runs-dir names another folder."
        )
    html = page.report_html(runs, at_s)
    if output == STANDARD_OUTPUT:
        sys.stdout.write(html)
        return
    more = "-and-others" if len(runs) > 1 else ""
    path = output or Path(f"{runs[0].table.run_id}{more}.html")
    write_report(path, html)
    say(str(path))


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
        raise ConfigError("Pages need jinja2. Run: pip install 'agent-preflight-proxy[ui]'") from exc
    return page


def write_report(path: Path, html: str) -> None:
    """Write a report, or replace an earlier one, as a whole.

    Raises:
        ConfigError: There is a file, or something else, that is no report of ours. It stands.
        OSError: It cannot be written; an earlier report stands.
    """
    from preflight_proxy.base.atomic_file import replace_file

    if path.exists() and not _is_report(path):
        raise ConfigError(
            f"{path} exists and is no report of agent-preflight. Give another file with -o, or remove it."
        )
    replace_file(path, html.encode("utf-8"), mode=0o644)


def _is_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return GENERATOR in file.read(HEAD_BYTES)
