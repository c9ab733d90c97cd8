"""The page of a run: its sections, and the report that has all of them in one file."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from agent_preflight.base.tables import duration, exact_money, money
from agent_preflight.figures.run_figures import PageFigures, page_figures
from agent_preflight.runs.record import Notice, RunRecord
from agent_preflight.views.page import Look, fragments, report_html, run_html, score_text
from preflight_proxy.core import terminal
from preflight_proxy.core.refusals.outcomes import Cause
from preflight_proxy.core.refusals.refusals import Source
from tests.support.browser import Browser
from tests.support.cases import each
from tests.support.html import Element, read_html
from tests.support.records import BEGUN_S, CENT, a_call, a_field, a_run, a_score, a_trial

NOW_S = BEGUN_S + 400
HEADS = [
    *("model", "score, 95 %", "solved", "each trial", "each success", "spent of limit"),
    *("calls", "cached", "time", "ended"),
]
HOSTILE = (
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</pre></section><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "<svg/onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{% include 'run.html' %}",
    "&lt;b&gt;&amp;",
    "<!-- ]]> <![CDATA[",
    "\u202egnp.exe \u2066x",
    "é漢🚀 " * 20,
    "x" * 5000,
)
"""Strings of an agent, of a provider and of OpenRouter."""


def figures_of(record: RunRecord) -> PageFigures:
    return page_figures(record, NOW_S)


def report(*records: RunRecord) -> Element:
    return read_html(report_html(list(map(figures_of, records)), NOW_S))


def scored(**more: object) -> RunRecord:
    """Three models with three trials each; nano is the cheapest for each success."""
    return a_field(
        {"nano": [CENT // 5, CENT // 4, CENT // 6], "haiku": [8 * CENT, 7 * CENT, 9 * CENT], "flash": [4 * CENT] * 3},
        {"nano": [True, True, False], "haiku": [True, True, True], "flash": [False, False, False]},
    )


def busy() -> RunRecord:
    """A run of two models with tools, caches, refusals, a warning, an ejection, and something reserved."""
    calls = [
        a_call(
            alias,
            CENT + n,
            BEGUN_S + 5 + n,
            model=f"m/{alias}",
            conversation=f"c{n % 3}",
            cache_saved_usd=Decimal("0.0011"),
        )
        for alias in ("a", "b")
        for n in range(12)
    ]
    causes = [Cause("insufficient_budget", Source.BUDGET, "The call does not fit.", detail="$0.02 left", count=3)]
    failed = a_score(None, reason="exit code 3")
    tools = [(BEGUN_S + 5.5, "bash"), (BEGUN_S + 9.5, "edit")]
    return a_run(
        a_trial("a", calls, model_id="m/a", score=a_score(0.9), causes=causes, tools=tools, key_usage_usd="0.12"),
        a_trial("b", calls, model_id="m/b", score=failed, status="ejected", error="ejected: idle", pending_pusd=CENT),
        calls=calls,
        notices=[Notice(BEGUN_S + 7, "a", "warning", "the price of m/a rose")],
        tags={"task": "refactor", "team": "core"},
        plan={"trials": [{"alias": "a", "model_id": "m/a", "budget_usd": "0.25"}]},
    )  # fmt: skip


@each("record", [scored(), busy(), a_run(), a_run(a_trial("z", status="pending")), a_field({"a": [0], "b": [CENT]})])
def test_a_report_is_whole_and_safe(record: RunRecord) -> None:
    """It is well-formed, has no script, no inline style or handler, and nothing that it would load."""
    document = report(record)
    for element in document.all("*"):
        assert element.name not in {"script", "link", "iframe", "object", "embed", "img", "base", "form", "input"}
        for name, value in element.attributes.items():
            assert name != "style"
            assert not name.startswith("on")
            assert name not in {"src", "srcset", "action", "data", "xlink:href"}
            assert name != "href" or value.startswith("#")
            assert "url(" not in value
    [styles] = document.all("style")
    assert re.findall(r"@import|url\((?!#)", styles.text) == []


@each("records", [[scored()], [busy()], [scored(), busy(), a_run()]])
def test_headings_go_down_one_level_at_a_time(records: Sequence[RunRecord]) -> None:
    levels = [int(each.name[1]) for each in report(*records).all("*") if re.fullmatch(r"h\d", each.name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


@each("record", [scored(), busy()])
def test_tables_and_charts_can_be_heard(record: RunRecord) -> None:
    """Each table has a caption and each of its heads a scope; each chart has a label."""
    document = report(record)
    assert all([child.name for child in table.children].count("caption") == 1 for table in document.all("table"))
    assert all(head.attributes.get("scope") in {"col", "row"} for head in document.all("th"))
    assert document.all("svg")
    for chart in document.all("svg"):
        hidden = chart.attributes.get("aria-hidden") == "true"
        assert hidden or (chart.attributes.get("role") == "img" and chart.attributes.get("aria-label"))


def test_each_section_is_a_fragment_with_its_id() -> None:
    parts = fragments(figures_of(busy()), Look(prefix="r-"))
    assert list(parts)[:3] == ["r-head", "r-answer", "r-models"], "they have the order of the page"
    for name, html in parts.items():
        [element] = read_html(html).children
        assert element.attributes["id"] == name
    whole = str(run_html(figures_of(busy()), Look(prefix="r-")))
    assert [html for html in parts.values() if html.strip() not in whole] == []


def test_every_string_of_others_is_text() -> None:
    """Whatever a model, a tool, a provider, a note or an error is called, it makes no element.

    It is shown as it is, but for escapes and marks of direction.
    """
    for text in HOSTILE:
        calls = [a_call("a", CENT, model=text, provider=text, endpoint=text, conversation=text, cache_miss=text)]
        trial = a_trial(
            "a", calls, base=text, model_id=text, status="failed", error=text, notes=(text,), tools=[(BEGUN_S, text)],
            score=a_score(None, reason=text), causes=[Cause(text, Source.UPSTREAM, text, detail=text)],
        )  # fmt: skip
        notices = [Notice(BEGUN_S, text, "warning", text)]
        record = a_run(
            trial, calls=calls, notices=notices, tags={"task": text, text: text}, trouble=text, plan={text: text}
        )
        shown, plain = report(record), report(_like(record))
        assert [each.name for each in shown.all("*")] == [each.name for each in plain.all("*")]
        assert [set(each.attributes) for each in shown.all("*")] == [set(each.attributes) for each in plain.all("*")]
        printed = terminal.plain(text, keep_lines=True)
        assert printed in shown.by_id("models").text
        assert printed in shown.by_id("endings").text
        assert shown.by_id("head").all("h1")[0].text == printed


def _like(record: RunRecord) -> RunRecord:
    """The run with harmless strings in the same places."""
    calls = [a_call("a", CENT, model="m/x", cache_miss="x")]
    trial = a_trial(
        "a", calls, base="x", model_id="x", status="failed", error="x", notes=("x",), tools=[(BEGUN_S, "x")],
        score=a_score(None, reason="x"), causes=[Cause("x", Source.UPSTREAM, "x", detail="x")],
    )  # fmt: skip
    notices = [Notice(BEGUN_S, "x", "warning", "x")]
    return a_run(trial, calls=calls, notices=notices, tags={"task": "x", "x": "x"}, trouble="x", plan={"x": "x"})


def test_the_table_shows_the_figures_of_each_model() -> None:
    figures = figures_of(scored())
    [head, *rows] = report(scored()).by_id("models").rows()
    assert head == HEADS
    for model, row in zip(figures.table.models, rows, strict=True):
        assert model.score is not None
        assert model.interval is not None
        assert row[0].startswith(model.base)
        assert (
            row[1] == f"{score_text(model.score)}{score_text(model.interval.low)} to {score_text(model.interval.high)}"
        )
        assert row[2] == f"{model.successes}/3"
        assert row[3] == money(model.cost_per_trial_pusd or 0)
        assert row[4] == ("none" if model.cost_per_success_pusd is None else money(model.cost_per_success_pusd))
        assert row[5] == f"{money(model.posted_pusd or 0)} of $0.75"
        assert row[6:8] == ["3", "40%"]
        assert row[9] == "done"


def test_the_best_model_is_named_and_not_by_colour_alone() -> None:
    [best] = [row for row in report(scored()).by_id("models").all("tr") if row.attributes.get("class") == "best"]
    assert "nano best for the dollar" in " ".join(best.text.split())


def test_without_scores_there_are_no_score_columns_and_no_chart() -> None:
    document = report(a_field({"a": [CENT], "b": [2 * CENT]}))
    heads = document.by_id("models").rows()[0]
    assert heads == [head for head in HEADS if head not in ("score, 95 %", "solved", "each success")]
    assert "hidden" in document.by_id("front").attributes
    assert document.by_id("front").text.strip() == ""


def test_what_is_not_known_is_unknown_and_never_0() -> None:
    [_head, row] = report(a_run(a_trial("a", has_ledger=False))).by_id("models").rows()
    assert row[1:3] == ["unknown", "unknown of $0.25"]
    assert row[3] == "unknown"


def test_a_score_that_failed_is_no_0_and_says_why() -> None:
    document = report(busy())
    assert document.by_id("models").rows()[2][1:3] == ["unknown", "not scored"]
    assert "1 of 1 trials have no score: exit code 3" in document.by_id("models").text
    [_head, _a, b] = document.by_id("endings").all("table")[0].rows()
    assert b[1:3] == ["unknown", "–"]
    assert "idle" in b[7]
    assert "Not scored: exit code 3" in b[7]


def test_each_trial_and_each_refusal_is_shown() -> None:
    figures = figures_of(busy())
    trials, refusals = report(busy()).by_id("endings").all("table")
    for trial, row in zip(figures.table.trials, trials.rows()[1:], strict=True):
        assert row[0] == trial.alias
        assert row[3:7] == [
            money(trial.posted_pusd or 0),
            str(trial.calls),
            duration(trial.duration_s or 0),
            trial.status,
        ]
    assert refusals.rows()[1:] == [["a", "3", "budget", "The call does not fit. insufficient_budget: $0.02 left"]]


def test_the_comparison_with_openrouter_is_exact() -> None:
    figures = figures_of(busy())
    assert figures.table.reconciliation is not None
    rows = report(busy()).by_id("reconciliation").rows()[1:]
    for account, row in zip(
        (*figures.table.reconciliation.rows, figures.table.reconciliation.total), rows, strict=True
    ):
        upstream, drift = account.upstream_pusd, account.drift_pusd
        assert row[1] == exact_money(account.posted_pusd)
        assert row[2] == ("unknown" if upstream is None else exact_money(upstream))
        assert row[3] == ("unknown" if drift is None else exact_money(drift))
        assert row[4].startswith(account.verdict)


def test_a_run_that_goes_on_says_how_it_stands_so_far() -> None:
    record = a_run(a_trial("a", status="running"), a_trial("b"), live=True)
    head = " ".join(report(record).by_id("head").text.split())
    assert "so far, at 15 January 2027, 08:06 UTC, 6m40s after its start: 1 of 2 trials have ended" in head


def test_several_runs_are_compared_first_and_each_follows() -> None:
    document = report(scored(), busy())
    assert document.all("h1")[0].text == "2 runs compared"
    rows = document.all("table", "models")[0].rows()
    assert rows[0] == HEADS
    run_id = scored().run_id
    names = [
        run_id,
        "nano best for the dollar",
        "haikum/x",
        "flashm/x",
        f"{run_id} refactor · team: core",
        "am/a",
        "bm/b",
    ]
    assert all(row[0].startswith(name) for row, name in zip(rows[1:], names, strict=True))
    ids = {each.attributes["id"] for each in document.all("*") if "id" in each.attributes}
    assert {f"run-{n}-{name}" for n in (1, 2) for name in fragments(figures_of(scored()))} <= ids
    targets = {each.attributes["href"].removeprefix("#") for each in document.all("a")}
    assert targets <= ids


def test_twenty_models_differ_by_colour_or_shape_and_keep_both() -> None:
    document = report(
        a_field({f"model-{n}": [CENT * (n + 1)] for n in range(20)}, {f"model-{n}": [n / 20] for n in range(20)})
    )
    marks = [row.all("svg", "dot")[0] for row in document.by_id("models").all("tr")[1:]]
    looks = [
        (mark.attributes["class"], mark.children[0].name, tuple(mark.children[0].attributes.values())) for mark in marks
    ]
    assert len(set(looks)) == 20


@each(
    "score, text",
    [(0.7142, "0.71"), (0.0, "0.00"), (0.0042, "0.0042"), (-3.5, "-3.50"), (12345.6, "12,346"), (1.0, "1.00")],
)
def test_scores_are_short(score: float, text: str) -> None:
    assert score_text(score) == text


def test_ten_thousand_calls_fit_into_a_megabyte() -> None:
    """Also with many models and trials, each with tools, conversations and refusals of its own."""
    aliases = [f"model-{n // 4}-{n % 4 + 1}" for n in range(48)]
    calls = [
        a_call(
            aliases[n % 48],
            CENT // 1000 + n,
            BEGUN_S + n * 1.7,
            model=f"vendor-{n % 12}/a-model-with-a-long-name-{n % 48 // 4}",
            conversation=f"c{n // 480}",
            duration_ms=900,
        )
        for n in range(10_000)
    ]
    causes = [
        Cause(f"code_{n}", Source.UPSTREAM, "OpenRouter answered 502." * 4, detail="Bad Gateway" * 9) for n in range(5)
    ]
    tools = [(BEGUN_S + n, f"tool-{n % 60}") for n in range(400)]
    trials = [
        a_trial(alias, calls, base=alias[:-2], repeat=int(alias[-1]), score=a_score(n / 48), causes=causes, tools=tools)
        for n, alias in enumerate(aliases)
    ]
    html = report_html([figures_of(a_run(*trials, calls=calls))], NOW_S)
    assert len(html.encode()) < 1_000_000
    read_html(html)


@pytest.mark.wire
@pytest.mark.parametrize("width", [400, 760, 1600])
def test_a_report_fits_every_screen(browser: Browser, tmp_path: Path, width: int) -> None:
    """Nothing but tables and texts to copy is wider than the screen, and those scroll by themselves."""
    path = tmp_path / "r.html"
    path.write_text(report_html([figures_of(busy()), figures_of(scored())], NOW_S), "utf-8")
    page = browser.open(path.as_uri(), width=width, script=False)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.said == []
    assert page.requests == [path.as_uri()]


@pytest.mark.wire
def test_a_report_is_white_on_paper_and_shows_what_is_folded(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    costs = {f"model-{n}": [CENT] for n in range(12)}
    path.write_text(report_html([figures_of(a_field(costs))], NOW_S), "utf-8")
    page = browser.open(path.as_uri(), dark=True, script=False)
    folded = "document.querySelector('details table').checkVisibility()"
    colour = "getComputedStyle(document.body).backgroundColor"
    assert (page.evaluate(folded), page.evaluate(colour)) == (False, "rgb(16, 19, 22)")
    page.look(dark=True, medium="print")
    assert page.evaluate(folded)
    assert page.evaluate(colour) == "rgb(255, 255, 255)"
