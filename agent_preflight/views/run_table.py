"""The table of a run on a terminal: a row for each trial, or for each model where results are scored.

Every figure comes from `figures/`. Here they get words, widths and colours only.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent_preflight.base.tables import Cell, ComputedColumn, Part, T, TextTable, duration, exact_money, money, table_of
from agent_preflight.figures.intervals import Interval
from agent_preflight.figures.model_figures import ModelFigures, Totals
from agent_preflight.figures.run_figures import TableFigures, table_figures
from agent_preflight.figures.trial_figures import Spending, TrialFigures
from agent_preflight.runs.record import Notice, RunRecord, read_record
from preflight_proxy.core.terminal import plain

if TYPE_CHECKING:  # rich is loaded when something is laid out
    from rich.console import Group
    from rich.text import Text

BAR_CHARS_MIN, BAR_CHARS_MAX = 8, 20
"""Width of a bar of spending in tables of up to 140 and from 260 characters."""
EIGHTHS = " ▏▎▍▌▋▊▉"
"""Blocks that are 0 to 7 eighths of a character wide."""
RESERVED, REST = "▒", "·"
TOOL_CHARS_MAX = 16
NOTE_CHARS_MIN = 16
"""A live table has a column of notes if this much room is left for them."""
BEST = "*"
"""Stands before the lowest cost for each success; a line below the table says so."""
UNKNOWN = "-"
SUCCEEDED = ("done", "spent")
"""Statuses of trials that ended without a failure."""
IN_FLIGHT = ("$/min", "lasts", "tool", "idle")
"""Columns of runs that go on."""


def spend_bar(posted_pusd: int, pending_pusd: int, limit_pusd: int, chars: int) -> Text:
    """Return a bar: full blocks for what is spent, hatched ones for what is reserved, dots for the rest.

    What is spent is rounded down to an eighth of a character, so only a spent limit fills the bar. What is more than nothing can be
    seen: it has an eighth of a character if it is spent, a whole one if it is reserved.
    """
    from rich.text import Text

    limit_pusd = max(limit_pusd, 1)
    eighths = min(max(posted_pusd * chars * 8 // limit_pusd, int(posted_pusd > 0)), chars * 8)
    spent = "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    reserved_chars = 0
    if pending_pusd > 0 and eighths < chars * 8:
        spent = spent[: chars - 1]
        end = min(-(-(posted_pusd + pending_pusd) * chars // limit_pusd), chars)
        reserved_chars = max(end - len(spent), 1)
    rest = chars - len(spent) - reserved_chars
    return Text.assemble(spent, (RESERVED * reserved_chars, "yellow"), (REST * rest, "dim"))


def figures_now(record: RunRecord) -> TableFigures:
    """Return what a table shows of a run that was read just now."""
    return table_figures(record, datetime.now(UTC).timestamp())


def final_parts(run_dir: Path) -> Iterator[Part]:
    """Yield what a run prints at its end; nothing if its checks did not pass."""
    if (run_dir / "plan.json").is_file():
        yield from run_parts(figures_now(read_record(run_dir)))


def run_parts(run: TableFigures, *, each_trial: bool = False) -> Iterator[Part]:
    """Yield what a run prints once: the models and the answer if its results are scored, else its trials.

    Args:
        run: Its figures.
        each_trial: Also show the trials of a scored run that repeats its models.
    """
    from rich.text import Text

    if not run.has_scores:
        yield trial_table(run)
        return
    yield model_table(run)
    if any(model.is_best for model in run.models):
        yield f"{BEST} the lowest cost for each success"
    if not (each_trial := each_trial and run.repeats > 1):
        yield from (Text(plain(f"{trial.alias}: {note}")) for trial in run.trials if (note := _note(trial)))
    yield ""
    words = [Text.assemble(*((plain(text), "bold" if strong else "") for text, strong in each)) for each in run.answer]
    yield Text(" ").join(words)
    if each_trial:
        yield ""
        yield trial_table(run)


def model_table(run: TableFigures) -> TextTable:
    """Return the table of a scored run: a row for each model with all its trials, and the sums."""
    totals = run.totals
    columns: list[ComputedColumn[ModelFigures]] = [
        _column("model", lambda each: _name(each.base), "TOTAL"),
        _column("id", lambda each: each.model_id, spare=10),
        _right("score", lambda each: _score(each.score)),
        _column("95 %", lambda each: _known(_interval, each.interval, ""), spare=4),
        _right("solved", lambda each: UNKNOWN if each.successes is None else f"{each.successes}/{len(each.trials)}"),
        _right("each success", _each_success),
        _column("spent", lambda each: _bar(each, BAR_CHARS_MIN), spare=5),
        _right("cost", lambda each: _known(money, each.posted_pusd), _spent(totals)),
        _summed("limit", lambda each: _known(exact_money, each.limit_pusd), totals, spare=7),
        _right(
            "calls", lambda each: _known(_count, each.calls), _count(totals.calls) if totals.calls else UNKNOWN, spare=6
        ),
        _summed("cached", lambda each: _share(each.tokens.cache_share), totals, spare=6),
        _right("time", lambda each: _known(duration, each.duration_s), spare=2),
        _column("ended", lambda each: each.ended, spare=3, fold=12),
    ]
    if run.repeats > 1:
        columns[8:8] = [
            _right("each trial", lambda each: _known(money, each.cost_per_trial_pusd), spare=8),
            _column("95 %", lambda each: _known(_between, each.cost_interval_pusd, ""), spare=9),
        ]
    return table_of(columns, run.models, with_total=True)


def trial_table(
    run: TableFigures, *, live: bool = False, trials: Sequence[TrialFigures] | None = None, bar_chars: int = 0
) -> TextTable:
    """Return a table with a row for each trial, and the sums.

    Args:
        run: The figures.
        live: It is drawn again and again, with a bar of spending, and notes are cut.
        trials: The trials that are shown; None for all. The sums are those of all.
        bar_chars: Width of the bars in a live table.
    """
    totals, trials = run.totals, run.trials if trials is None else trials
    columns: list[ComputedColumn[TrialFigures]] = [
        _column("trial", lambda each: _name(each.alias), "TOTAL"),
        _column("model", lambda each: each.model_id or UNKNOWN, spare=12),
        _column("status", lambda each: _status(each, is_over=not run.live)),
        _right("score", lambda each: _score(each.score.value if each.score else None), spare=2),
        _column("spent", lambda each: _bar(each, bar_chars), spare=3),
        _right("cost", lambda each: _known(money, each.posted_pusd), _spent(totals)),
        _summed("reserved", lambda each: _some(money, each.pending_pusd), totals, spare=11 if live else 2),
        _summed("limit", lambda each: _known(exact_money, each.limit_pusd), totals),
        _right("calls", lambda each: _known(_count, each.calls), _count(totals.calls) if totals.calls else UNKNOWN),
        _summed("refused", lambda each: _some(_count, each.refused), totals, spare=10 if live else 3),
        _right("tools", lambda each: _count(each.tool_calls), spare=9),
        _summed("tokens", lambda each: _count(each.tokens.prompt + each.tokens.completion), totals, spare=5),
        _summed("cached", lambda each: _share(each.tokens.cache_share), totals, spare=4),
        _summed("$/min", lambda each: _some(money, each.rate_pusd_per_min), totals, spare=6),
        _right("lasts", lambda each: _some(duration, each.empty_in_s), spare=6),
        _column("tool", lambda each: "" if each.ended else (each.last_tool or "")[:TOOL_CHARS_MAX], spare=8),
        _right("idle", lambda each: _some(duration, each.idle_s), spare=7),
        _right("time", lambda each: _some(duration, each.duration_s), spare=1),
        _column("note", lambda each: each.note if each.ended else "", spare=9, fold=NOTE_CHARS_MIN),
    ]
    absent = [*(("tools",) if live else ("spent", "note")), *(() if run.live else IN_FLIGHT)]
    absent += ["score"] * (not run.has_scores) + ["note"] * (not any(trial.note for trial in trials if trial.ended))
    columns = [column for column in columns if column.title not in absent]
    notes = () if live else [_note(trial) for trial in trials]
    return table_of(columns, trials, notes, with_total=True, live=live)


def live_frame(run: TableFigures, title: str, width: int, height: int) -> Group:
    """Return what a terminal shows of a run now: title, trials, sums, and the newest warnings.

    It has at most `height` lines, unless even title, heads and sums have more.

    If not all trials have room, those that run come first and a line says how many there are besides.
    """
    from rich.console import Group
    from rich.text import Text

    parts: list[Text | Group] = [Text(line) for line in textwrap.wrap(plain(title), width, break_on_hyphens=False)]
    trials, warnings = run.trials, [notice_line(notice) for notice in run.warnings]
    room = height - len(parts) - 2  # the heads and the sums
    shown = min(len(warnings), max(room - len(trials), room // 3) - 1)
    rows = room - (shown + 1 if shown > 0 else 0)
    if len(trials) > rows:
        trials = tuple(sorted(trials, key=lambda each: (each.ended, each.status == "pending")))[: max(rows - 1, 0)]
    bar_chars = min(max(width // 10 - 6, BAR_CHARS_MIN), BAR_CHARS_MAX)
    if run.trials:
        parts.append(trial_table(run, live=True, trials=trials, bar_chars=bar_chars).fitted(width))
    if (more := len(run.trials) - len(trials)) > 0:
        parts.append(
            Text(f"and {more} more, for which the window is too low", "dim", no_wrap=True, overflow="ellipsis")
        )
    if shown > 0:
        parts += [Text(), *(Text(line, "yellow", no_wrap=True, overflow="ellipsis") for line in warnings[-shown:])]
    return Group(*parts)


def state_of(trial: TrialFigures) -> str:
    """Return how a trial stands: its status once it has ended, else what its runner does with it."""
    return trial.state or trial.status


def state_line(alias: str, state: str, posted_pusd: int | None, calls: int | None) -> str:
    """Return how a trial stands, what it has spent and how many calls it made, in a line."""
    spent = _known(money, posted_pusd, "an unknown amount")
    return plain(f"[{alias}] {state}: {spent} spent, {'1 call' if calls == 1 else f'{calls or 0:,} calls'}")


def notice_line(notice: Notice) -> str:
    """Return a notice with its time of day, in a line."""
    at = datetime.fromtimestamp(notice.at_s).astimezone()
    return plain(f"{at:%H:%M:%S}  {notice.trial or 'run'}: {notice.text}")


def _column(
    title: str, cell: Callable[[T], Cell], total: str = "", *, right: bool = False, spare: int = 0, fold: int = 0
) -> ComputedColumn[T]:
    return ComputedColumn(title, right=right, spare=spare, fold=fold, cell=cell, total=lambda _: total)


def _right(title: str, cell: Callable[[T], Cell], total: str = "", *, spare: int = 0) -> ComputedColumn[T]:
    return _column(title, cell, total, right=True, spare=spare)


def _summed(title: str, cell: Callable[[T | Totals], str], totals: Totals, *, spare: int = 0) -> ComputedColumn[T]:
    """Return a column of figures whose sum is written as they are."""
    return _right(title, cell, cell(totals), spare=spare)


def _known(text: Callable[[T], str], value: T | None, unknown: str = UNKNOWN) -> str:
    return unknown if value is None else text(value)


def _spent(totals: Totals) -> str:
    return UNKNOWN if totals.unknown_costs == totals.trials else money(totals.posted_pusd)


def _some(text: Callable[[T], str], value: T | None) -> str:
    return text(value) if value else ""


def _count(count: int) -> str:
    return f"{count:,}"


def _score(score: float | None) -> str:
    return _known("{:.2f}".format, score)


def _interval(interval: Interval) -> str:
    return f"{interval.low:.2f} to {interval.high:.2f}"


def _between(amounts_pusd: tuple[int, int]) -> str:
    return " to ".join(map(money, amounts_pusd))


def _share(share: float | None) -> str:
    return _known("{:.0%}".format, share)


def _each_success(model: ModelFigures) -> Text:
    from rich.text import Text

    cost = _known(money, model.cost_per_success_pusd, "none" if model.successes == 0 else UNKNOWN)
    return Text(f"{BEST} {cost}", "bold") if model.is_best else Text(cost)


def _bar(of: Spending, chars: int) -> Cell:
    known = of.posted_pusd is not None and of.limit_pusd is not None
    return spend_bar(of.posted_pusd or 0, of.pending_pusd, of.limit_pusd or 0, chars) if known else UNKNOWN


def _name(name: str) -> Text:
    from rich.text import Text

    return Text(plain(name), "bold")


def _note(trial: TrialFigures) -> str:
    unscored = trial.score is not None and trial.score.reason
    return "; ".join(filter(None, (trial.note, f"not scored: {unscored}" if unscored else "")))


def _status(trial: TrialFigures, *, is_over: bool) -> Text:
    from rich.text import Text

    if trial.ended:
        return Text(trial.status, "green" if trial.status in SUCCEEDED else "red")
    if trial.status == "pending":
        return Text("not started" if is_over else plain(state_of(trial)), "dim")
    return Text(plain(state_of(trial)), "yellow")
