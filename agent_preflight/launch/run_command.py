"""The command `run`: makes a request from options, variables and a file, runs it, and shows the run."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent_preflight.base.config import Environment, variable
from agent_preflight.base.console import say
from agent_preflight.base.tables import show
from agent_preflight.launch.config_policies import with_objects
from agent_preflight.launch.resume import earlier_version, find_plan, origin_of, resumed_settings, runs_dir_of
from agent_preflight.launch.run_view import RunView, run_view
from agent_preflight.options.config_file import load_config
from agent_preflight.options.settings import RunSettings
from agent_preflight.options.sources import for_command, read_variables, settings_of
from agent_preflight.options.text_files import read_text
from agent_preflight.runner.api import run_container
from agent_preflight.runner.arguments import build_request
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import StopSignal, run_blocking
from agent_preflight.runner.messages import elsewhere, farewell
from agent_preflight.runner.progress import KEPT, TrialProgress
from agent_preflight.runs.places import answers_lines, place_lines
from agent_preflight.runs.request import Finished, Origin, RunRequest
from agent_preflight.runs.result import exit_code, summary_document
from agent_preflight.views.run_table import final_parts
from preflight_proxy.core.errors import OperatingError

NOTHING_SPENT = "No agent was started, so none has spent money."


class ToldInterrupt(KeyboardInterrupt):
    """Ctrl-C after agents were started, or after the state of the run was printed."""


def run_command(given: Mapping[str, Any], config: Path | None = None, *, as_json: bool = False) -> int:
    """Run a field of agents, show it, and return the exit code.

    Args:
        given: Options of the command line, by the keywords of `run_multi`.
        config: The configuration file; None looks for one in the working directory.
        as_json: Print each result as a line of JSON on standard output, and everything else on standard error.

    Raises:
        ConfigError: A key or the models are missing, the file is wrong, or options contradict each other.
        PreflightError: A check failed.
        KeyboardInterrupt: Ctrl-C; every trial has been ended. A ToldInterrupt if agents were started.
    """
    # Standard output is for JSON alone. The text for people, with the report of the checks, goes to standard error.
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        with _nothing_spent():
            settings, origin = _settings(given, config)
        if origin.config is not None:
            say(f"Configured by {origin.config}")
        finished = _run(settings, origin, run_view())
    if as_json:
        for result in finished.results:
            sys.stdout.write(json.dumps(summary_document(result)) + "\n")
    return exit_code(finished.results, finished.held_back)


def _settings(given: Mapping[str, Any], config: Path | None) -> tuple[RunSettings, Origin]:
    """Return the settings of the run, and their sources."""
    environment = Environment.read()
    if given.get("resume"):
        runs_dir, run_id = runs_dir_of(given, config), str(given["run_id"])
        plan = find_plan(run_id, runs_dir)
        note = earlier_version(run_id, plan)
        if note is None:
            return resumed_settings({**given, "runs_dir": str(runs_dir)}, plan, config, environment, variable)
        say(note)
    file, path = load_config(config, Path.cwd())
    options = for_command(given, environment, with_objects(file))
    variables = read_variables(given, file, read_text)
    return settings_of(options, variables.values, variable, read_text), origin_of(variables, path)


def _run(settings: RunSettings, origin: Origin, view: RunView) -> Finished:
    checks = {
        "log_fn": say,
        **(settings.preflight_kwargs or {}),
    }  # a live table shows no lines, so the checks print theirs
    settings = replace(settings, log_fn=view.say, preflight_kwargs=checks)
    with _nothing_spent():
        request = replace(build_request(settings, run_container, makes_sources=False), origin=origin)
    results: list[Finished] = []

    async def work(stop: StopSignal) -> Finished:
        results.append(await run_field(request, stop, view.progress))
        return results[0]

    try:
        with _nothing_spent(view.progress.rows), contextlib.closing(view):
            run_blocking(work)
    except KeyboardInterrupt as exc:
        if results:
            _show(view, request, results[0])
        if results or any(row.started_s is not None for row in view.progress.rows()):
            raise ToldInterrupt from exc
        raise
    _show(view, request, results[0])
    return results[0]


def _show(view: RunView, request: RunRequest, finished: Finished) -> None:
    rows = view.progress.rows()
    if request.settings.resume and rows and all(row.state == KEPT for row in rows):
        say(f"Nothing to do: every trial of {finished.run_dir.name} has ended.")
    show(*final_parts(finished.run_dir))
    where = place_lines(finished.run_dir, elsewhere(request))
    for line in (*where, *answers_lines(finished.results, finished.run_dir)):
        say(line)
    for row in rows:
        if row.state == "not started" and row.note:
            say(f"{row.alias} was not started: {row.note}")
        errors = finished.run_dir / row.alias / "stderr.log"
        if row.state == "failed" and errors.is_file() and errors.stat().st_size:
            say(f"what {row.alias} said of its failure: {errors}")
    for line in farewell(request, finished):
        say(line)


@contextlib.contextmanager
def _nothing_spent(rows: Callable[[], Sequence[TrialProgress]] = tuple) -> Iterator[None]:
    """Add to an error that no money was spent, if no agent was started."""
    try:
        yield
    except (OperatingError, OSError) as exc:
        if all(row.started_s is None for row in rows()):
            exc.add_note(NOTHING_SPENT)
        raise
