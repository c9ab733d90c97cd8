"""Every figure of every view equals the ledger's, to the last digit shown: they are read back and compared with plain SQL.

The expected figures are computed here from the rows of the ledger, past all of our own code that reads it.
"""

import csv
import io
import json
import re
import shutil
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, TypeVar

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent_preflight.operate.metrics import LedgerCollector
from tests.support.browser import Browser, Page
from tests.support.cli_commands import invoke
from tests.support.run_on_disk import alive
from tests.support.scored_run import ScoredRun
from tests.support.terminal import Terminal
from tests.support.ui_thread import ui_thread

pytestmark = pytest.mark.wire

Row = dict[str, Any]
T = TypeVar("T")

ALT_ON, ALT_OFF = "\x1b[?1049h", "\x1b[?1049l"

SOLVED = {"nano": 1, "haiku": 2, "deepseek": 0, "sonnet": 0}
SCORES = {"nano": "0.75", "haiku": "1.00", "deepseek": "0.25", "sonnet": "0.75"}
"""Of the two scores of each model as its trials wrote them; the second ones of the last two are no numbers."""


@dataclass
class Sums:
    """What some entries of the ledger add up to; money in pico-USD."""

    cost: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    saved: Fraction = Fraction(0)
    unpriced: int = 0

    @property
    def tokens(self) -> int:
        """Those of prompts and completions."""
        return self.prompt_tokens + self.completion_tokens

    @property
    def cached(self) -> str:
        """The share of prompt tokens that a cache had."""
        return f"{self.cached_tokens / self.prompt_tokens:.0%}"


@dataclass
class Ledger:
    """The ledger's rows, and what must be shown of them."""

    rows: list[Row]
    limits: dict[str, int]
    refused: dict[str, int]
    tools: dict[str, list[tuple[float, str]]]

    def by(self, name: Callable[[Row], T]) -> dict[T, Sums]:
        """Return the sums of the rows that have a name in common."""
        sums: defaultdict[T, Sums] = defaultdict(Sums)
        for row in self.rows:
            total = sums[name(row)]
            total.cost += row["cost_pusd"]
            total.calls += row["kind"] in ("posted", "assumed") and not row["purpose"]  # a weighing is no call (M3)
            for tokens in ("prompt_tokens", "cached_tokens", "completion_tokens"):
                setattr(total, tokens, getattr(total, tokens) + row[tokens])
            if row["prompt_tokens"]:
                total.unpriced += row["cache_saved_usd"] is None
                total.saved += Fraction(row["cache_saved_usd"] or 0)
        return dict(sums)

    @property
    def trials(self) -> dict[str, Sums]:
        """By trial."""
        return self.by(lambda row: row["account"])

    @property
    def bases(self) -> dict[str, Sums]:
        """By model, all repeats together."""
        return self.by(lambda row: row["account"].rpartition("-")[0])

    @property
    def total(self) -> Sums:
        """Of all."""
        return self.by(lambda row: "")[""]

    def tool(self, row: Row) -> str:
        """The last tool that its trial had begun when a call was posted."""
        begun = [name for at_s, name in self.tools[row["account"]] if at_s <= row["at_s"]]
        return begun[-1] if begun else "no tool"

    def turns(self) -> dict[str, Sums]:
        """By the number of a call in its conversation."""
        numbers: Counter[tuple[str, str]] = Counter()

        def turn(row: Row) -> str:
            if row["kind"] != "posted" or row["purpose"] or not row["conversation"]:
                return "other"
            numbers[row["account"], row["conversation"]] += 1
            return str(numbers[row["account"], row["conversation"]])

        return self.by(turn)


@pytest.fixture(scope="module")
def ledger(scored_run: ScoredRun) -> Ledger:
    """The ledger of the run."""
    sql = "SELECT account, kind, cost_pusd, at_s, line FROM entries ORDER BY entry_id"
    rows = [
        {**json.loads(line), "account": account, "kind": kind, "cost_pusd": cost, "at_s": at_s}
        for account, kind, cost, at_s, line in scored_run.asked(sql)
    ]
    summaries = {
        alias: json.loads((scored_run.run_dir / alias / "summary.json").read_text()) for alias in scored_run.billed_usd
    }
    tools: dict[str, list[tuple[float, str]]] = {}
    for alias in summaries:
        events = map(json.loads, (scored_run.run_dir / alias / "events.jsonl").read_text().splitlines())
        tools[alias] = [
            (datetime.fromisoformat(event["timestamp"]).timestamp(), event["toolName"])
            for event in events
            if event["type"] == "tool_execution_start"
        ]
    return Ledger(
        rows,
        dict(scored_run.asked("SELECT id, limit_pusd FROM accounts")),
        {alias: summary["preflight"]["refused"] for alias, summary in summaries.items()},
        tools,
    )


def usd(amount_pusd: int | Fraction) -> str:
    """Dollars with four decimals, as every view shows them below ten dollars."""
    exact = Decimal(amount_pusd.numerator) / Decimal(amount_pusd.denominator)
    return f"${exact.scaleb(-12):.4f}"


def exact_usd(amount_pusd: int) -> str:
    """Dollars with all decimals that they have, at least four."""
    whole, _, decimals = f"{Decimal(amount_pusd).scaleb(-12):.12f}".partition(".")
    return f"${whole}.{decimals.rstrip('0').ljust(4, '0')}"


def mean(amount_pusd: int, count: int) -> int:
    """Whole pico-USD, halves up."""
    return (2 * amount_pusd + count) // (2 * count)


def columns(text: str, first: str) -> dict[str, dict[str, str]]:
    """Return the rows of a table in text by the first word of each, and the cells by their column's heading.

    A cell stands below the heading that it overlaps; headings are right or left aligned over their column.
    """
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.split()[:1] == [first])
    spans = [(m[0], m.start(), m.end()) for m in re.finditer(r"\S+(?: \S+)*", lines[start])]
    table: dict[str, dict[str, str]] = {}
    for line in lines[start + 1 :]:
        if not line.strip() or line.split()[0].endswith(":"):
            break  # the end of the table, or the notes below it
        cells = [(m[0], m.start(), m.end()) for m in re.finditer(r"\S+(?: \S+)*", line)]
        row = {name: cell for cell, left, right in cells for name, begin, end in spans if left < end and begin < right}
        table[cells[0][0]] = row
        if cells[0][0] == "TOTAL":
            break
    return table


def tables(page: Page) -> dict[str, list[list[str]]]:
    """Return the rows of each table of a page by its caption, as they are shown."""
    script = """Object.fromEntries([...document.querySelectorAll('table')].map(table =>
        [table.caption.textContent, [...table.rows].map(row => [...row.cells].map(cell => cell.innerText.trim()))]))"""
    read: dict[str, list[list[str]]] = page.evaluate(script)
    return read


def cells(rows: Sequence[Sequence[str]], *names: str) -> dict[str, tuple[str, ...]]:
    """Return of each row the cells below these headings, by the row's first line of text."""
    places = [list(rows[0]).index(name) for name in names]
    return {
        row[0].split("\n")[0].removesuffix("best for the dollar").strip(): tuple(row[place] for place in places)
        for row in rows[1:]
    }


def test_the_ledger_itself_equals_the_bill(scored_run: ScoredRun, ledger: Ledger) -> None:
    assert {alias: Decimal(each.cost).scaleb(-12) for alias, each in ledger.trials.items()} == scored_run.billed_usd


def test_the_final_table_and_status_show_the_ledger_s_figures(scored_run: ScoredRun, ledger: Ledger) -> None:
    status = invoke("status", scored_run.run_id, "--runs-dir", str(scored_run.runs_dir)).stdout
    shown = columns(status, "trial")
    for alias, sums in ledger.trials.items():
        row = shown[alias]
        assert (row["calls"], row["cost"]) == (str(sums.calls), usd(sums.cost)), alias
    total = shown["TOTAL"]
    assert (total["calls"], total["cost"]) == (str(ledger.total.calls), usd(ledger.total.cost))
    final = columns("\n".join(scored_run.said), "model")
    assert {name: row["cost"] for name, row in final.items()} == {
        name: usd(sums.cost) for name, sums in {**ledger.bases, "TOTAL": ledger.total}.items()
    }
    assert {base: final[base]["solved"] for base in SOLVED} == {base: f"{solved}/2" for base, solved in SOLVED.items()}
    assert {base: final[base]["each success"].removeprefix("* ") for base in SOLVED} == {
        base: usd(mean(ledger.bases[base].cost, solved)) if solved else "none" for base, solved in SOLVED.items()
    }


def test_a_watched_run_shows_the_ledger_s_figures(scored_run: ScoredRun, ledger: Ledger, tmp_path: Path) -> None:
    """Read back from the screen of a terminal, while the run counts as live: its lock is held."""
    shutil.copytree(scored_run.run_dir, tmp_path / scored_run.run_id)
    terminal = Terminal(140, 40)
    watch = [
        sys.executable,
        "-m",
        "agent_preflight",
        "status",
        scored_run.run_id,
        "--watch",
        "--runs-dir",
        str(tmp_path),
    ]
    with alive(tmp_path / scored_run.run_id):
        assert terminal.run(watch, steps=[("TOTAL", b"q")]) == 0
    frame = terminal.shown.split(ALT_ON)[1].split(ALT_OFF)[0]
    screen = Terminal(140, 40)
    screen.write(frame)
    shown = columns("\n".join(screen.lines()), "trial")
    for alias, sums in {**ledger.trials, "TOTAL": ledger.total}.items():
        row = shown[alias]
        assert (row["calls"], row["cost"]) == (f"{sums.calls:,}", usd(sums.cost)), alias
        assert (row["tokens"], row["cached"]) == (f"{sums.tokens:,}", sums.cached), alias


def test_costs_are_the_ledger_s_to_the_pico_dollar(scored_run: ScoredRun, ledger: Ledger) -> None:
    *lines, last = map(
        json.loads,
        invoke("costs", scored_run.run_id, "--runs-dir", str(scored_run.runs_dir), "--json").stdout.splitlines(),
    )
    assert [Decimal(line["cost_usd"]) for line in lines] == [
        Decimal(row["cost_pusd"]).scaleb(-12) for row in ledger.rows
    ]
    wanted = {**ledger.trials, "": ledger.total}
    sums = {**last["sums"]["accounts"], "": last["sums"]["total"]}
    assert {
        name: (Decimal(each["cost_usd"]), each["calls"], each["prompt_tokens"], each["cached_tokens"])
        for name, each in sums.items()
    } == {
        name: (Decimal(each.cost).scaleb(-12), each.calls, each.prompt_tokens, each.cached_tokens)
        for name, each in wanted.items()
    }


def check_page(shown: dict[str, list[list[str]]], ledger: Ledger) -> None:
    """Compare each table of a run's page with the ledger."""
    limits: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    repeats: Counter[str] = Counter()
    for alias, limit in ledger.limits.items():
        limits[alias.rpartition("-")[0]] += limit
        refused[alias.rpartition("-")[0]] += ledger.refused[alias]
        repeats[alias.rpartition("-")[0]] += 1

    caption = "Each model: score, cost and end"
    assert cells(shown[caption], "each trial", "spent of limit", "calls", "cached") == {
        base: (
            usd(mean(sums.cost, repeats[base])),
            f"{usd(sums.cost)} of ${Decimal(limits[base]).scaleb(-12):.2f}",
            f"{sums.calls}\n{refused[base]} refused" if refused[base] else str(sums.calls),
            sums.cached,
        )
        for base, sums in ledger.bases.items()
    }
    outcomes = cells(shown[caption], "score, 95 %", "solved", "each success")
    assert {
        base: (score.split()[0], solution.split()[0], cost) for base, (score, solution, cost) in outcomes.items()
    } == {
        base: (
            SCORES[base],
            f"{SOLVED[base]}/{repeats[base]}",
            usd(mean(sums.cost, SOLVED[base])) if SOLVED[base] else "none",
        )
        for base, sums in ledger.bases.items()
    }
    assert cells(shown["Each trial: result, cost, end and its reason"], "cost", "calls") == {
        alias: (usd(sums.cost), str(sums.calls)) for alias, sums in ledger.trials.items()
    }
    for caption, sums_by_name in (
        ("Costs by model", ledger.by(lambda row: row["model"])),
        ("Costs by tool before the call", ledger.by(ledger.tool)),
        ("Costs by turn of a conversation", ledger.turns()),
    ):
        assert cells(shown[caption], "cost", "calls", "tokens") == {
            name: (usd(sums.cost), f"{sums.calls:,}", f"{sums.tokens:,}") for name, sums in sums_by_name.items()
        }, caption
    assert cells(shown["Costs by kind of token"], "cost") == {
        name: (usd(cost),) for name, cost in kinds(ledger.rows).items()
    }
    assert cells(shown["Caching by model"], "prompt tokens", "cached", "share", "saved") == {
        model: (
            f"{sums.prompt_tokens:,}",
            f"{sums.cached_tokens:,}",
            sums.cached,
            usd(sums.saved * 10**12) + (f" {sums.unpriced} calls unknown" if sums.unpriced else ""),
        )
        for model, sums in ledger.by(lambda row: row["model"]).items()
    }
    bill = "Our ledger and OpenRouter's figures, exactly"
    assert cells(shown[bill], "our ledger", "OpenRouter", "drift", "result") == {
        name: (exact_usd(sums.cost), exact_usd(sums.cost), "$0.0000", "balances")
        for name, sums in {**ledger.trials, "all": ledger.total}.items()
    }


def kinds(rows: Iterable[Row]) -> dict[str, int]:
    """Return what each kind of token cost by the quoted prices; what they do not explain is other."""
    costs: Counter[str] = Counter()
    for row in rows:
        prices = row["prices"] or {}
        rest = row["cost_pusd"]
        plain = row["prompt_tokens"] - row["cached_tokens"] - row["cache_write_tokens"]
        for kind, tokens, price in (
            ("prompt", plain, "prompt"),
            ("cache read", row["cached_tokens"], "cache_read"),
            ("cache write", row["cache_write_tokens"], "cache_write"),
            ("completion", row["completion_tokens"] - row["reasoning_tokens"], "completion"),
            ("reasoning", row["reasoning_tokens"], "completion"),
        ):
            quoted = prices.get(
                price, prices.get("prompt")
            )  # an endpoint without a price for caching takes the usual one
            if tokens and quoted is not None:
                cost = int(tokens * Decimal(quoted).scaleb(12))
                costs[kind] += cost
                rest -= cost
        if rest:
            costs["other"] += rest
    assert sum(costs.values()) == sum(row["cost_pusd"] for row in rows)
    return dict(costs)


def test_the_report_shows_the_ledger_s_figures(
    scored_run: ScoredRun, ledger: Ledger, browser: Browser, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    assert invoke("report", scored_run.run_id, "--runs-dir", str(scored_run.runs_dir), "-o", str(path)).exit_code == 0
    page = browser.open(path.as_uri())
    check_page(tables(page), ledger)
    assert f"{usd(ledger.total.cost)} spent in all" in page.text()
    assert (page.said, page.requests) == ([], [path.as_uri()])


def exported(run: ScoredRun, what: str) -> tuple[list[dict[str, str]], list[dict[str, Any]]]:
    """Return the rows of an export as CSV and as JSON lines."""
    arguments = ("export", run.run_id, "--runs-dir", str(run.runs_dir), "--what", what, "--format")
    lines = invoke(*arguments, "jsonl").stdout.splitlines()
    return list(csv.DictReader(io.StringIO(invoke(*arguments, "csv").stdout))), [json.loads(line) for line in lines]


def test_an_export_has_each_entry_and_each_trial_exactly(scored_run: ScoredRun, ledger: Ledger) -> None:
    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    wanted = [
        (row["account"], row["kind"], Decimal(row["cost_pusd"]).scaleb(-12), *(row[name] for name in names))
        for row in ledger.rows
    ]
    for rows in exported(scored_run, "calls"):
        assert [
            (row["trial"], row["outcome"], Decimal(row["cost_usd"]), *(int(row[name]) for name in names))
            for row in rows
        ] == wanted
    for rows in exported(scored_run, "trials"):
        assert {
            row["alias"]: (Decimal(row["posted_usd"]), int(row["calls"]), *(int(row[name]) for name in names))
            for row in rows
        } == {
            alias: (Decimal(sums.cost).scaleb(-12), sums.calls, *(getattr(sums, name) for name in names))
            for alias, sums in ledger.trials.items()
        }


def test_a_scrape_has_the_ledger_s_figures(scored_run: ScoredRun, ledger: Ledger) -> None:
    registry = CollectorRegistry()
    registry.register(LedgerCollector(scored_run.run_dir))
    families = list(text_string_to_metric_families(generate_latest(registry).decode()))
    samples = {
        (sample.name.removeprefix("agent_preflight_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    shown = {key[:3]: value for key, value in samples.items() if key[0] in ("spent_dollars", "calls_total")}
    for (alias, model), sums in ledger.by(lambda row: (row["account"], row["model"])).items():
        assert shown["spent_dollars", alias, model] == float(Decimal(sums.cost).scaleb(-12))
        assert shown["calls_total", alias, model] == sums.calls
    assert sum(1 for key in shown if key[0] == "spent_dollars") == len(
        ledger.by(lambda row: (row["account"], row["model"]))
    )


def test_the_live_page_shows_the_ledger_s_figures(scored_run: ScoredRun, ledger: Ledger, browser: Browser) -> None:
    with ui_thread(scored_run.runs_dir) as ui:
        page = browser.open(ui.url(f"/run/{scored_run.run_id}"))
        check_page(tables(page), ledger)
        for alias, sums in ledger.trials.items():
            page.goto(ui.url(f"/run/{scored_run.run_id}/trial/{alias}"))
            assert exact_usd(sums.cost) in page.text()
        page.goto(ui.url(f"/run/{scored_run.run_id}/calls"))
        costs = [row["cost_pusd"] for row in reversed(ledger.rows)]
        (rows,) = tables(page).values()
        shown = [row[rows[0].index("cost")] for row in rows[1:]]
        assert shown == [exact_usd(cost) for cost in costs[: len(shown)]]
        assert len(shown) >= min(len(costs), 20)
        page.goto(ui.url("/"))
        assert usd(ledger.total.cost) in page.text()
        assert page.said == []
        assert all(request.startswith(ui.url()) for request in page.requests)
