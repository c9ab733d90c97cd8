"""The pages of `ui`: the runs, a run, a trial with its events, and calls, each as fragments of HTML."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec

from agent_preflight.artifacts import run_dirs
from agent_preflight.figures.run_figures import page_figures, table_figures
from agent_preflight.runs.event_tail import newest_events
from agent_preflight.runs.record import RecordReader, RunRecord
from agent_preflight.runs.status import is_run, read_run, trials_of
from agent_preflight.views.page import Look, environment, fragments, sections
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.core.errors import ConfigError

ROWS_MAX = 100
"""Rows of a page of calls, and of runs."""
EVENTS_MAX = 200
READERS_MAX = 16
"""Runs of which is kept how far they were read; the one that was read longest ago goes first."""
PAGES_MAX = 64
"""Pages that are kept rendered."""


class View(msgspec.Struct, frozen=True):
    """What somebody looks at; the runs if `run` is None.

    Attributes:
        run: A name as it was asked for; so is `trial`.
        calls: The calls, of one trial or of all, and not the run or the trial itself.
        number: The page of calls or runs, from 1.
    """

    run: str | None = None
    trial: str | None = None
    calls: bool = False
    number: int = 1

    @property
    def path(self) -> str:
        """Its path below the root, without the number of the page."""
        names = (("run", self.run), ("trial", self.trial))
        parts = [f"/{kind}/{quote(name, safe='', errors='surrogateescape')}" for kind, name in names if name]
        return "".join([*parts, "/calls" if self.calls else ""]) or "/"


class LivePages:
    """Reads the runs below a folder and renders their pages. Any thread may call it.

    Args:
        runs_dir: The folder that has the runs.
    """

    def __init__(self, runs_dir: Path) -> None:
        self._runs_dir = runs_dir
        self._lock, self._reader = threading.Lock(), lru_cache(READERS_MAX)(RecordReader)
        # A page is made anew when the record of its run is another one.
        self._rendered: dict[View, tuple[RunRecord, Mapping[str, str]]] = {}
        environment().get_template("run.html")  # compiled now, so that the first page does not wait for it

    def fragments(self, view: View, root: str) -> Mapping[str, str]:
        """Return the fragments of a page, by name, in their order. `root` stands in front of each path.

        Raises:
            ConfigError: There is no such run or trial.
        """
        folders = run_dirs(self._runs_dir)
        if view.run is None:
            page = rows_page([folder for folder in folders if is_run(folder)], view.number)
            now_s = SystemClock.epoch_s()
            rows = [(View(run.run_dir.name), run, run.age_s(now_s)) for run in map(read_run, page["rows"])]
            return sections("runs.html", page=page, rows=rows, runs_dir=self._runs_dir, view=view, root=root)
        # A name is looked up among the folders that are there, which are no links, and never made into a path.
        folder = next((folder for folder in folders if folder.name == view.run and is_run(folder)), None)
        if folder is None:
            raise ConfigError(f'There is no run "{view.run}" in {self._runs_dir}/.')
        with self._lock:
            record = self._reader(folder).read()
            known = self._rendered.get(view)
            if known is None or known[0] != record:  # quick: entries that were read before are the same objects
                if len(self._rendered) >= PAGES_MAX:
                    self._rendered.clear()
                known = self._rendered[view] = record, self._of_run(view, record, root)
            return known[1]

    def page(self, view: View, shown: Mapping[str, str], version: int, root: str, problem: str = "") -> str:
        """Return a whole page that shows these fragments, which are of that version, or why there is none."""
        places = [("runs", View())]
        if view.run is not None:
            places.append((view.run, View(view.run)))
            places += [(view.trial, View(view.run, view.trial))] if view.trial is not None else []
            places.append(("calls", View(view.run, view.trial, calls=True)))
        template = environment().get_template("live.html")
        return template.render(view=view, places=places, sections=shown, version=version, root=root, problem=problem)

    def _of_run(self, view: View, record: RunRecord, root: str) -> Mapping[str, str]:
        at_s, aliases = SystemClock.epoch_s(), [trial.status.alias for trial in record.trials]
        if view.trial not in (None, *aliases):
            raise ConfigError(f'The run {record.run_id} has no trial "{view.trial}".')
        values = {"root": root, "view": view, "commands": self._commands(record, view.trial)}
        if view.calls:
            calls = [call for call in record.calls if view.trial in (None, call.trial)]
            filters = [(alias or "all trials", View(view.run, alias, calls=True)) for alias in (None, *aliases)]
            return sections("calls.html", page=rows_page(calls[::-1], view.number), filters=filters, **values)
        if view.trial is None:
            look = Look(trial_href=lambda alias: f"{root}{View(record.run_id, alias).path}")
            return {**fragments(page_figures(record, at_s), look), **sections("commands.html", **values)}
        models = table_figures(record, at_s).models
        number, trial = next((m.number, trial) for m in models for trial in m.trials if trial.alias == view.trial)
        folder = next(folder for alias, folder, _ in trials_of(record.run_dir) if alias == view.trial)
        return sections("trial.html", trial=trial, number=number, events=newest_events(folder, EVENTS_MAX), **values)

    def _commands(self, record: RunRecord, alias: str | None) -> Sequence[str]:
        """Return what to type to change a run or a trial that is going on; nothing of it can be done here."""
        if not record.live or not record.trials:
            return ()
        elsewhere = () if self._runs_dir == Path("runs") else ("--runs-dir", str(self._runs_dir))
        top_up = ("top-up", record.run_id, f"{alias or record.trials[0].status.alias}=1.00")
        stop = ("stop", record.run_id, *([alias] if alias is not None else []))
        return [shlex.join(("agent-preflight", *words, *elsewhere)) for words in (top_up, stop)]


def rows_page(rows: Sequence[Any], number: int) -> dict[str, Any]:
    """Return one page of some rows, where it begins, its number, and how many rows and pages there are.

    A number that is too high means the last page.
    """
    last = max((len(rows) - 1) // ROWS_MAX + 1, 1)
    number = min(max(number, 1), last)
    first = (number - 1) * ROWS_MAX
    return {"rows": rows[first : first + ROWS_MAX], "first": first, "number": number, "total": len(rows), "last": last}
