"""What the command `run` does: options, environment and file become a request, and the run is shown while it goes on."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent_preflight.config import Environment
from agent_preflight.config_file import load_config
from agent_preflight.config_policies import with_objects
from agent_preflight.console import say
from agent_preflight.runner.arguments import request_of
from agent_preflight.runner.board import Row
from agent_preflight.runner.exit_code import exit_code
from agent_preflight.runner.loop import Stop, run_blocking
from agent_preflight.runner.report import answers_lines
from agent_preflight.runner.request import Finished
from agent_preflight.runner.result import summary_document
from agent_preflight.runner.run import run_field
from agent_preflight.runs.sources import for_command
from agent_preflight.table import RunView, files_line, print_table, run_view
from preflight_proxy.errors import OperatingError

NOTHING_SPENT = "No agent was started, so none has spent money."


def run_command(given: Mapping[str, Any], config: Path | None = None, *, as_json: bool = False) -> int:
    """Run a field of agents, show it, and return the exit code.

    Args:
        given: What the command line says, by the keywords of `run_multi`.
        config: The file that it names; else one is looked for in the working directory.
        as_json: Print each result as a line of JSON on standard output, and what is for people on standard error.

    Raises:
        ConfigError: A key or the models are missing, the file is wrong, or an option cannot be carried out.
        PreflightError: A check failed.
        KeyboardInterrupt: Ctrl-C; everything has been ended.
    """
    with _nothing_spent():
        said, path = load_config(config, Path.cwd())
        options = for_command(given, Environment.read(), with_objects(said))
    with _for_people(as_json):
        view = run_view()
        if path is not None:
            say(f"Configured by {path}")
        finished = _run(options, view)
    if as_json:
        for result in finished.results:
            sys.stdout.write(json.dumps(summary_document(result)) + "\n")
    return exit_code(finished.results, finished.held_back)


def _run(options: Mapping[str, Any], view: RunView) -> Finished:
    shown = {"log_fn": say, **(options.get("preflight_kwargs") or {})}  # a live table does not keep what is said to it
    request = request_of({**options, "log_fn": view.say, "preflight_kwargs": shown}, makes_sources=False)
    ended: list[Finished] = []

    async def work(stop: Stop) -> Finished:
        ended.append(await run_field(request, stop, view.board))
        return ended[0]

    try:
        with _nothing_spent(view.board.rows), view:
            run_blocking(work)
    except KeyboardInterrupt:
        if ended:
            _show(view, ended[0])
            say(f"interrupted; it goes on with `--resume {ended[0].run_dir.name}` and all that was given before")
        raise
    _show(view, ended[0])
    return ended[0]


def _show(view: RunView, finished: Finished) -> None:
    print_table(view.board.rows())
    say(files_line(finished.run_dir))
    for line in answers_lines(finished.results, finished.run_dir):
        say(line)
    for row in view.board.rows():
        printed = finished.run_dir / row.alias / "stderr.log"
        if row.state == "failed" and printed.is_file() and printed.stat().st_size:
            say(f"what {row.alias} said of its failure: {printed}")


@contextlib.contextmanager
def _nothing_spent(rows: Callable[[], Sequence[Row]] = tuple) -> Iterator[None]:
    """Add to an error what it means for money, if no agent was started yet."""
    try:
        yield
    except OperatingError as exc:
        if all(row.started_s is None for row in rows()):
            exc.add_note(NOTHING_SPENT)
        raise


@contextlib.contextmanager
def _for_people(as_json: bool) -> Iterator[None]:
    """Where JSON goes to standard output, what is for people goes to standard error meanwhile, also that of the checks."""
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        yield
