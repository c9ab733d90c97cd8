"""The command line: one file a command, which parses, calls and prints. Whatever is heavy is imported inside the commands."""

from __future__ import annotations

from typing import Annotated

import typer

from agent_preflight import __version__
from agent_preflight.cli import (
    cache_report,
    costs,
    demo,
    doctor,
    estimate,
    init,
    preflight,
    proxy,
    quarantine,
    run,
    runs,
    simulate,
    status,
    stop,
    sweep,
    top_up,
)
from agent_preflight.cli.group import Commands, emit_json

__all__ = ["app"]

app = typer.Typer(
    name="agent-preflight",
    cls=Commands,
    help="Run a field of language-model agents, each in its own container, under a dollar budget that holds.",
    epilog="Exit codes: 0 done, 1 preflight or a trial failed, 2 bad option, 3 drift, 4 overrun, 5 clean-up unverified, "
    "130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(asked: bool) -> None:
    if asked:
        emit_json(f"agent-preflight {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


app.command("preflight")(preflight.preflight)
app.command("estimate")(estimate.estimate)
app.command("init")(init.init)
app.command("run", context_settings={"allow_interspersed_args": False})(run.run)
app.command("runs")(runs.runs)
app.command("list", hidden=True)(runs.runs)
app.command("status")(status.status)
app.command("top-up")(top_up.top_up)
app.command("stop")(stop.stop)
app.command("quarantine")(quarantine.quarantine)
app.command("sweep")(sweep.sweep)
app.command("costs")(costs.costs)
app.command("cache-report")(cache_report.cache_report)
app.add_typer(proxy.app)
app.command("simulate")(simulate.simulate)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
