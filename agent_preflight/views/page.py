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
from agent_preflight.base.usd import dollars
from agent_preflight.figures.model_figures import ModelFigures
from agent_preflight.figures.run_figures import PageFigures
from agent_preflight.views.charts import Box, Scale, labels, linear_scale, log_scale, steps
from preflight_proxy.core.terminal import plain

FOLDER = Path(__file__).parent


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
    """Return the sections of a run, as `sections`. One without content is an empty, hidden element."""
    return {look.prefix + name: html for name, html in sections("run.html", figures=figures, look=look).items()}


def sections(template_name: str, **values: object) -> dict[str, str]:
    """Return the HTML of each block of a template by its name, in their order. Each is one element, whose id ends in the name."""
    template = environment().get_template(template_name)
    context = template.new_context(values)
    return {name: "".join(block(context)) for name, block in template.blocks.items()}


def run_html(figures: PageFigures, look: Look = PLAIN) -> Markup:
    """Return all sections of a run."""
    return Markup(environment().get_template("run.html").render(figures=figures, look=look))  # noqa: S704 - a template's


def report_html(runs: Sequence[PageFigures], at_s: float) -> str:
    """Return a document that shows runs, whole by itself: without script, without anything to load.

    Args:
        runs: What it shows. Several are compared in one table first.
        at_s: When the figures were read, in seconds since the epoch.
    """
    looks = [PLAIN] if len(runs) == 1 else [Look(f"run-{number}-", 3) for number in range(1, len(runs) + 1)]
    pages = [(figures, look, run_html(figures, look)) for figures, look in zip(runs, looks, strict=True)]
    styles = Markup((FOLDER / "static" / "page.css").read_text("utf-8"))  # noqa: S704 - our own file
    return environment().get_template("report.html").render(pages=pages, styles=styles, at_s=at_s)


@functools.cache
def environment() -> Environment:
    """Return the templates, with what they use: filters, in which None is "unknown", scales, and the marks."""
    loader = FileSystemLoader(FOLDER / "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.finalize = _printed
    texts = {"money": money, "exact_money": exact_money, "dollars": dollars, "duration": duration, "score": score_text}
    forms = {"percent": "{:.0%}".format, "number": "{:,}".format}
    made.filters |= {name: functools.partial(_known, text) for name, text in (texts | forms).items()}
    made.filters |= {"when": _moment("%-d %B %Y, %H:%M UTC"), "clock": _moment("%H:%M:%S")}
    made.globals |= {
        "Scale": Scale,
        "Box": Box,
        "labels": labels,
        "log_scale": log_scale,
        "score_scale": score_scale,
        "steps": steps,
    }
    for name in ("marks", "models"):  # the second one uses the first
        made.globals[name] = made.get_template(f"{name}.html").module
    return made


def _printed(value: object) -> object:
    """Return text without escapes, control characters and marks that change its direction; an agent may have written it."""
    return plain(value, keep_lines=True) if type(value) is str and not value.isprintable() else value


def _known(text: Callable[[Any], str], value: object) -> str:
    return "unknown" if value is None else text(value)


def _moment(form: str) -> Callable[[float], str]:
    return lambda at_s: datetime.fromtimestamp(at_s, UTC).strftime(form)


def score_text(score: float) -> str:
    """Return a score with two decimals; a small one with two digits, a large one whole."""
    return f"{score:.2g}" if 0 < abs(score) < 0.01 else f"{score:,.2f}" if abs(score) < 1000 else f"{score:,.0f}"


def score_scale(models: Sequence[ModelFigures], start: float, end: float, *, whole: bool = False) -> Scale:
    """Return the scale of all scores and their intervals. An end of an interval that is far from all scores is cut.

    Args:
        models: Whose scores.
        start: First coordinate.
        end: Last coordinate.
        whole: Scores from 0 to 1 have a scale from 0 to 1.
    """
    scores = [model.score for model in models if model.score is not None] or [0.0, 1.0]
    low, high, room = min(scores), max(scores), max(scores) - min(scores) or abs(max(scores))
    least, most = (0.0, 1.0) if (is_share := low >= 0 and high <= 1) else (low - room, high + room)
    limits = [limit for model in models if (i := model.interval) is not None for limit in (i.low, i.high)]
    shown = [*scores, *(min(max(limit, least), most) for limit in limits), *((0.0, 1.0) if is_share and whole else ())]
    return linear_scale(shown, start, end)
