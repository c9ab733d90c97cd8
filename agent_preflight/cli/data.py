"""`export` and `metrics`: the figures of runs for other programs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from agent_preflight.base.console import say
from agent_preflight.cli.reports import LedgerFolder, folder_to_read, none_in
from agent_preflight.cli.shared import RunId, RunsDir, complain
from preflight_proxy.core.errors import ConfigError

Form = StrEnum("Form", ("csv", "jsonl"))
What = StrEnum("What", ("calls", "trials"))


def export(
    run_id: RunId = None,
    form: Annotated[
        Form, typer.Option("--format", help="CSV with a header, or one JSON object for each row.")
    ] = Form.csv,
    what: Annotated[What, typer.Option(help="What the rows are.")] = What.calls,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file; - is standard output.")
    ] = Path("-"),
    data: LedgerFolder = None,
    runs_dir: RunsDir = Path("runs"),
) -> None:
    """Write a run's calls or trials as CSV or JSON lines.

    With exact dollars, also while the run is going on. A file is replaced as a whole, or left as it was.

    Example: agent-preflight export run-20270131-120000 --format csv -o calls.csv
    """
    from agent_preflight.operate.export import rows_of, write_rows

    folder = folder_to_read(run_id, data, runs_dir)
    if folder is None:
        raise ConfigError(f"{none_in(runs_dir)}; --data names the folder of a stand-alone proxy.")
    if not write_rows(rows_of(folder, what), what, form, None if str(output) == "-" else output):
        complain(f"{folder.name} has no {what} yet.")


def metrics(
    data: Annotated[
        Path, typer.Argument(metavar="DIR", help="The folder of a run, of a stand-alone proxy, or of runs.")
    ],
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where it listens; port 0 takes a free one.")
    ] = "127.0.0.1:9188",
) -> None:
    """Serve a ledger's figures to Prometheus.

    Spend, reservations, limits, calls, refusals, tokens and times, by account and model. Reads the ledger at each scrape.

    Example: agent-preflight metrics runs --listen 127.0.0.1:9188
    """
    from preflight_proxy.base.config import host_port
    from preflight_proxy.core.environment_proxy import is_loopback

    try:
        from agent_preflight.operate.metrics import serve_metrics
    except ModuleNotFoundError as exc:
        raise ConfigError("`metrics` needs another package: pip install prometheus-client") from exc
    try:
        host, port = host_port(listen)
    except ConfigError as exc:
        raise typer.BadParameter(f"--listen: {exc}") from exc
    if not is_loopback(host):
        complain(f"Warning: whoever reaches {listen} can read the names of accounts and models, and what they cost.")
    serve_metrics(data, host, port, say)
