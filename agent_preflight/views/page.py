"""The page of a run as HTML: its sections one by one for the live server, or all in one file that needs nothing else.

Text of agents (names of models, tools and providers, notes, errors) is escaped by the templates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from agent_preflight.base.tables import duration, exact_money, money
from agent_preflight.base.usd import dollars, pusd
from agent_preflight.figures.model_figures import ModelFigures
from agent_preflight.figures.run_figures import PageFigures
from agent_preflight.figures.spending import Curve, TimelineRow
from agent_preflight.views.charts import Box, Label, Scale, labels, linear_scale, log_scale, polyline, steps

FOLDER = Path(__file__).parent
STYLES = FOLDER / "static" / "page.css"
SECTIONS = (
    *("head", "answer", "models", "warnings", "front", "fairness", "curves", "costs", "caching", "timeline"),
    *("endings", "reconciliation", "rerun"),
)
"""The blocks of run.html, in the order of the page. Each is one element whose id ends in the name."""
UNKNOWN = "unknown"
FRONT_X, FRONT_Y = (56.0, 424.0), (262.0, 16.0)
FRONT_ROOM = Box(FRONT_X[0], 0.0, 440.0, FRONT_Y[0])
"""The chart of score against cost."""


class Look(msgspec.Struct, frozen=True):
    """How the page of a run is written.

    Attributes:
        prefix: Before the id of each section, so that several runs have room in one document.
        level: Of the headings of sections: 2, or 3 below the heading of a run.
        trial_href: Returns the address of a trial's page by its alias; None where there is none.
    """

    prefix: str = ""
    level: int = 2
    trial_href: Callable[[str], str] | None = None


PLAIN = Look()


def fragments(figures: PageFigures, look: Look = PLAIN) -> dict[str, str]:
    """Return the HTML of each of `SECTIONS`, by the id of its element. A section without content is an empty, hidden element."""
    template = environment().get_template("run.html")
    context = template.new_context(_values(figures, look))
    return {look.prefix + name: "".join(template.blocks[name](context)) for name in SECTIONS}


def run_html(figures: PageFigures, look: Look = PLAIN) -> Markup:
    """Return all sections of a run."""
    return Markup(environment().get_template("run.html").render(_values(figures, look)))  # noqa: S704 - a template's output


def report_html(runs: Sequence[PageFigures], at_s: float) -> str:
    """Return a document that shows runs, whole by itself: without script, without anything to load.

    Args:
        runs: What it shows. Several are compared in one table first.
        at_s: When the figures were read, in seconds since the epoch.
    """
    single = len(runs) == 1
    looks = [Look() if single else Look(f"run-{number}-", 3) for number in range(1, len(runs) + 1)]
    pages = [run_html(figures, look) for figures, look in zip(runs, looks, strict=True)]
    styles = Markup(STYLES.read_text("utf-8"))  # noqa: S704 - our own file
    models = [model for figures in runs for model in figures.table.models]
    return (
        environment()
        .get_template("report.html")
        .render(
            runs=runs,
            pages=pages,
            looks=looks,
            styles=styles,
            at_s=at_s,
            whiskers=score_scale(models, 4, 136, whole=True),
            has_scores=any(figures.table.has_scores for figures in runs),
        )
    )


@functools.cache
def environment() -> Environment:
    """Return the templates, with what they use: the filters below, and the marks."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "money": _or_unknown(money),
        "exact_money": _or_unknown(exact_money),
        "dollars": _or_unknown(dollars),
        "duration": _or_unknown(duration),
        "percent": _or_unknown("{:.0%}".format),
        "number": _or_unknown("{:,}".format),
        "score": _or_unknown(score_text),
        "when": _moment("%-d %B %Y, %H:%M UTC"),
        "clock": _moment("%H:%M:%S"),
        "axis_dollars": lambda amount_usd: dollars(pusd(amount_usd)),
        "place": lambda part, whole, px: min(round(px * part / whole, 1), px),
        "width": lambda part, whole, px: max(round(px * min(part / whole, 1), 1), 1.5) if whole else 1.5,
    }
    made.globals["marks"] = made.get_template("marks.html").module
    made.globals["tables"] = made.get_template("models.html").module
    return made


def score_text(score: float) -> str:
    """Return a score with two decimals; a small one with two digits, a large one whole."""
    if score and abs(score) < 0.01:
        return f"{score:.2g}"
    return f"{score:,.2f}" if abs(score) < 1000 else f"{score:,.0f}"


def _or_unknown(text: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return a filter that says that None is unknown."""
    return lambda value: UNKNOWN if value is None else text(value)


def _moment(form: str) -> Callable[[float], str]:
    return lambda at_s: datetime.fromtimestamp(at_s, UTC).strftime(form)


def _values(figures: PageFigures, look: Look) -> dict[str, Any]:
    """Return what run.html needs: the figures, and where its marks stand."""
    models = figures.table.models
    longest_s = max((curve.points[-1][0] - curve.points[0][0] for curve in figures.curves if curve.points), default=0.0)
    return {
        "figures": figures,
        "table": figures.table,
        "look": look,
        "front": _Front.of(models),
        "whiskers": score_scale(models, 4, 136, whole=True),
        "longest_s": longest_s,
        "panels": _panels(figures.curves, Scale(0, max(longest_s, 1e-9), 0, 200, ())),
        "calls_path": functools.partial(_calls_path, scale=_time_scale(figures)),
        "times": _time_scale(figures),
    }


def score_scale(models: Sequence[ModelFigures], start: float, end: float, *, whole: bool = False) -> Scale:
    """Return the scale of all scores and their intervals. An end of an interval that is far from all scores is cut.

    Args:
        models: Whose scores.
        start: First coordinate.
        end: Last coordinate.
        whole: Scores from 0 to 1 have a scale from 0 to 1.
    """
    scores = [model.score for model in models if model.score is not None] or [0.0, 1.0]
    low, high = min(scores), max(scores)
    is_share = low >= 0 and high <= 1
    room = high - low or abs(high)
    least, most = (0.0, 1.0) if is_share else (low - room, high + room)
    limits = [limit for model in models if (i := model.interval) is not None for limit in (i.low, i.high)]
    shown = [*scores, *(min(max(limit, least), most) for limit in limits)]
    return linear_scale([0.0, 1.0] if is_share and whole else shown, start, end)


class _FrontPoint(msgspec.Struct, frozen=True):
    model: ModelFigures
    x: float
    y: float
    low: float | None
    high: float | None


class _Front(msgspec.Struct, frozen=True):
    """The chart of score against the cost of a trial."""

    x: Scale
    y: Scale
    points: Sequence[_FrontPoint]
    labels: Sequence[Label]
    line: str

    @classmethod
    def of(cls, models: Sequence[ModelFigures]) -> _Front | None:
        """Return the chart; None if no model has both a score and a cost."""
        shown = [model for model in models if model.score is not None and model.cost_per_trial_pusd is not None]
        if not shown:
            return None
        x = log_scale([_usd(model) for model in shown], *FRONT_X)
        y = score_scale(shown, *FRONT_Y)
        points = [
            _FrontPoint(
                model,
                x.at(_usd(model)),
                y.at(model.score or 0),
                y.at(model.interval.low) if model.interval else None,
                y.at(model.interval.high) if model.interval else None,
            )
            for model in shown
        ]
        names = labels([(point.model.base, point.x, point.y) for point in points], FRONT_ROOM)
        front = sorted((point.x, point.y) for point in points if point.model.on_front)
        return cls(x, y, points, names, polyline(front))


def _usd(model: ModelFigures) -> float:
    return (model.cost_per_trial_pusd or 0) / 1e12


def _panels(curves: Sequence[Curve], x: Scale) -> list[tuple[int, str, Sequence[tuple[Curve, str]]]]:
    """Return the small charts of spending: number and alias of a model, and for each trial its curve and the path."""
    groups: dict[tuple[int, str], list[tuple[Curve, str]]] = {}
    for curve in curves:
        y = Scale(0, curve.limit_pusd or max((amount for _at, amount in curve.points), default=0) or 1, 90, 16, ())
        path = steps(((at_s - curve.points[0][0], amount) for at_s, amount in curve.points), x, y)
        groups.setdefault((curve.number, curve.base), []).append((curve, path))
    return [(number, base, group) for (number, base), group in sorted(groups.items())]


def _time_scale(figures: PageFigures) -> Scale:
    line = figures.timeline
    return Scale(line.began_at_s, max(line.ended_at_s, line.began_at_s + 1e-3), 0, 1000, ())


def _calls_path(row: TimelineRow, scale: Scale) -> str:
    """Return the `d` of a path with a stroke for each time in which a trial waited for its model."""
    ends = ((scale.at(begin_s), scale.at(end_s)) for begin_s, end_s in row.calls)
    return "".join(f"M{begin:g},5H{max(end, begin + 1):g}" for begin, end in dict.fromkeys(ends))
