"""The command line. A command parses, calls and prints. Modules that take long to load are imported inside the commands."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer
from typer.core import TyperGroup

from agent_preflight import __version__
from agent_preflight.base.console import say
from agent_preflight.cli import before_run, data, live, machine, pages, proxy, reports, run
from agent_preflight.cli.shared import complain
from preflight_proxy.core.errors import OperatingError, error_sentence

__all__ = ["Commands", "app"]


class Commands(TyperGroup):
    """A group of commands that behaves as scripts expect: without arguments it prints the help and exits with 0.

    An unknown command exits with 1. A command that fails prints a sentence.
    """

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Name the commands in their order; those with commands of their own come last."""
        return sorted(super().list_commands(ctx), key=lambda name: isinstance(self.commands[name], TyperGroup))

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # click's own Context
        """Read no arguments as `--help`."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> object:  # type: ignore[override]
        """Find the command, or print which there are."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            commands = self.list_commands(ctx)
            near = difflib.get_close_matches(name, commands, n=1)
            hint = f" Do you mean `{near[0]}`?" if near else ""
            complain(f"Unknown command: {name}.{hint} Available: {', '.join(commands)}")
            ctx.exit(1)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run the command. An operating error is a sentence on stderr, with its notes, and exit code 1."""
        try:
            return super().invoke(ctx)
        except (OperatingError, OSError, RuntimeError) as exc:
            sentence = error_sentence(exc)
            if sentence is None:
                raise
            complain(sentence)
            return ctx.exit(1)


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


def _print_version(wanted: bool) -> None:
    if wanted:
        say(f"agent-preflight {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None: ...


app.command("preflight")(before_run.preflight)
app.command("estimate")(before_run.estimate)
app.command("init")(before_run.init)
app.command("run", context_settings={"allow_interspersed_args": False})(run.run)
app.command("runs")(reports.runs)
app.command("list", hidden=True)(reports.runs)
app.command("status")(reports.status)
app.command("top-up")(live.top_up)
app.command("stop")(live.stop)
app.command("quarantine")(live.quarantine)
app.command("sweep")(machine.sweep)
app.command("costs")(reports.costs)
app.command("cache-report")(reports.cache_report)
app.command("report")(pages.report)
app.command("ui")(pages.ui)
app.command("export")(data.export)
app.command("metrics")(data.metrics)
app.add_typer(proxy.app)
app.command("simulate")(machine.simulate)
app.command("doctor")(machine.doctor)
app.command("demo")(run.demo)
