"""The report on prompt caching in a run."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.cache_report import cache_report_json, generate_cache_report, main
from agent_preflight.models import CacheStats, RunResult
from preflight_proxy.core.ledger.commands import Post
from preflight_proxy.core.ledger.rows import CallFacts
from tests.support.ledger_on_disk import open_account, open_store, reserve


def finish(run: Path, alias: str, **fields: Any) -> None:
    (run / alias).mkdir(parents=True)
    (run / alias / "summary.json").write_text(json.dumps(RunResult(alias, "m/x", 0.5, **fields).to_dict()))


def test_without_a_ledger_savings_are_estimates_at_a_price_that_the_report_names(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    finish(run, "a1", cost_usd=0.1, cache=CacheStats(5000, 4000, 10, 10, 8))
    finish(run, "a2")
    assert generate_cache_report(run).splitlines() == [
        "Cache Analytics Report: run-1",
        "",
        "trial  calls  hits  cached  prompt  written    saved",
        "a1        10     8   80.0%   5,000       10  $0.0020",
        "a2         -     -       -       -        -        -",
        "TOTAL     10     8   80.0%   5,000       10  $0.0020",
        "",
        "The savings are estimates, because this run has no ledger, which has the prices.",
        "Assumed: $1.00 per million prompt tokens, and 50% less for cached ones.",
    ]
    assert cache_report_json(run)["trials"] == {
        "a1": {
            "request_count": 10, "cache_hit_requests": 8, "total_prompt_tokens": 5000, "cached_tokens": 4000,
            "cache_creation_tokens": 10, "cost_usd": "0.1",
        },
        "a2": None,
    }  # fmt: skip
    assert cache_report_json(run)["estimate"] == {
        "saved_usd": "0.0020", "assumed_price_usd_per_m": 1.0, "assumed_discount": 0.5,
    }  # fmt: skip


def test_a_run_without_cache_figures_has_a_line_that_says_so(tmp_path: Path) -> None:
    finish(tmp_path, "a")
    assert "No cache data recorded for this run." in generate_cache_report(str(tmp_path))


def test_a_run_without_trials_has_a_line_that_says_so(tmp_path: Path) -> None:
    assert "No trials found." in generate_cache_report(tmp_path)


@pytest.mark.parametrize("content", ["{corrupt", '{"cache": 5}', '{"cache": {"request_count": "x"}}', "[]"])
def test_a_corrupt_summary_has_no_data(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "summary.json").write_text(content)
    assert "No cache data recorded for this run." in generate_cache_report(tmp_path)


def test_escapes_in_a_folder_s_name_are_not_printed(tmp_path: Path) -> None:
    finish(tmp_path, "a\x1b[31m")
    assert "\x1b" not in generate_cache_report(tmp_path)


def test_the_report_on_the_latest_run_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path / "run-1", "a")
    main(runs_dir=tmp_path)
    assert "Cache Analytics Report: run-1" in capsys.readouterr().out


@pytest.mark.parametrize("run_id", ["absent", ".."])
def test_a_missing_run_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], run_id: str) -> None:
    main(run_id, tmp_path)
    assert f'There is no run "{run_id}" in {tmp_path}/.' in capsys.readouterr().out


def test_a_folder_without_runs_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(runs_dir=tmp_path)
    assert f"No runs found in {tmp_path}/" in capsys.readouterr().out


def write_ledger(run: Path, *calls: CallFacts, account: str = "a1") -> None:
    """A ledger with calls of one account."""
    run.mkdir(parents=True, exist_ok=True)
    store = open_store(run)
    open_account(store, account, 10**12)
    for number, facts in enumerate(calls):
        store.commit(reserve(f"r{number}", 100, account))
        store.commit(Post(f"r{number}", 10, facts))
    store.close()


FIRST = CallFacts("m/x", prompt_tokens=2000, conversation="c0ffee", cache_miss="first_call", cache_saved_pusd=0)
HIT = CallFacts("m/x", prompt_tokens=2000, cached_tokens=1500, conversation="c0ffee", cache_saved_pusd=25 * 10**8)
CHANGED = CallFacts("m/x", prompt_tokens=2000, conversation="c0ffee", cache_miss="message 3 (tool)", cache_saved_pusd=0)


def test_with_a_ledger_only_its_figures_are_shown(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    finish(run, "a1", cost_usd=0.1, cache=CacheStats(5000, 4000, 10, 10, 8))
    finish(run, "of no account", cache=CacheStats(5000, 4000, 10, 10, 8))
    write_ledger(run, FIRST, HIT, CHANGED, CHANGED)
    report = generate_cache_report(run)
    assert report.splitlines() == [
        "Cache Analytics Report: run-1",
        "",
        "trial  calls  hits  cached  prompt  written    saved",
        "a1         4     1   18.8%   8,000        0  $0.0025",
        "TOTAL      4     1   18.8%   8,000        0  $0.0025",
        "",
        "model  calls  hits  cached  prompt  written    saved",
        "m/x        4     1   18.8%   8,000        0  $0.0025",
        "",
        "trial  conversation  calls  cached  prompt  written    saved  why it missed",
        "a1     c0ffee            4   18.8%   8,000        0  $0.0025  message 3 (tool)",
        "                                                              (2 times),",
        "                                                              first_call",
        "",
        "why caches missed  calls  prompt tokens  what that means, and what to do",
        "message                2          4,000  an earlier message changed or went",
        "                                         away: only add at the end",
        "first_call             1          2,000  the first call of its conversation:",
        "                                         there was nothing to read",
    ]
    assert "stimate" not in report
    assert cache_report_json(run)["estimate"] is None


@pytest.mark.parametrize("columns", [72, 80, 120])
def test_no_line_is_longer_than_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    model = "anthropic/claude-sonnet-4.5-thinking-\x1b[31m20990101"
    facts = CallFacts(
        model, prompt_tokens=123_456_789, cached_tokens=1, conversation="c0ffeec0ffee", cache_miss="system"
    )
    write_ledger(tmp_path / "run-1", facts, account="claude-sonnet-4-5-thinking")
    main(runs_dir=tmp_path)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    assert (out.count("123,456,789"), "\x1b" in out) == (5, False)


def test_a_ledger_without_summaries_is_enough(tmp_path: Path) -> None:
    write_ledger(tmp_path, HIT)
    (tmp_path / "budget").mkdir()
    report = generate_cache_report(tmp_path)
    assert "a1         1     1   75.0%   2,000        0  $0.0025\n" in report
    assert "budget" not in report, "a folder of the proxy is no trial"
    assert "No call read less than it could." in report


def test_a_ledger_without_tokens_has_no_data_and_no_estimate(tmp_path: Path) -> None:
    write_ledger(tmp_path, CallFacts("m/x"))
    report = generate_cache_report(tmp_path)
    assert "No cache data recorded for this run." in report
    assert "stimate" not in report


def test_of_many_conversations_the_longest_are_shown(tmp_path: Path) -> None:
    write_ledger(tmp_path, *(CallFacts("m/x", prompt_tokens=n + 1, conversation=f"c{n}") for n in range(23)))
    report = generate_cache_report(tmp_path)
    assert "and 3 more" in report
    assert "a1: the saving of 23 of its calls is not known" in report
    assert len(cache_report_json(tmp_path)["ledger"]["conversations"]) == 23


def test_an_unreadable_ledger_leaves_the_summaries(tmp_path: Path) -> None:
    finish(tmp_path, "a1", cache=CacheStats(5000, 4000, 10, 10, 8))
    (tmp_path / "ledger.sqlite3").write_text("this is no database, although it is long enough to be taken for one" * 99)
    report = generate_cache_report(tmp_path)
    assert "80.0%" in report
    assert "From the summaries: the ledger" in report
    assert cache_report_json(tmp_path)["ledger"] is None


def test_the_json_has_the_trials_and_the_ledger(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    finish(run, "a1", cost_usd=0.1, cache=CacheStats(5000, 4000, 10, 10, 8))
    write_ledger(run, FIRST, HIT)
    report = cache_report_json(run)
    assert (report["run"], report["trials"]["a1"]["cached_tokens"]) == ("run-1", 1500)
    assert report["ledger"]["total"]["saved_usd"] == "0.0025"
    assert report["trials"]["a1"]["cost_usd"] == "0.00000000002"
