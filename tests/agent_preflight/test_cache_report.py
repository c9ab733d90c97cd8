"""The cache report in its known form."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.cache_report import cache_report_json, generate_cache_report, main
from agent_preflight.models import CacheStats, RunResult
from preflight_proxy.core.accounts import CallFacts
from preflight_proxy.core.commands import Post
from tests.preflight_proxy.ledger_on_disk import open_account, open_store, reserve


def finish(run: Path, alias: str, **fields: Any) -> None:
    (run / alias).mkdir(parents=True)
    (run / alias / "summary.json").write_text(json.dumps(RunResult(alias, "m/x", 0.5, **fields).to_dict()))


def test_the_report_of_two_trials(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    finish(run, "a1", cost_usd=0.1, cache=CacheStats(5000, 4000, 10, 10, 8))
    finish(run, "a2")
    assert generate_cache_report(run).splitlines() == [
        "",
        "Cache Analytics Report: run-1",
        "=" * 70,
        "",
        "Per-Model Cache Performance:",
        "-" * 70,
        "  a1                   hit_rate= 80.0%  cached=  4000  total=   5000  requests= 10 ($0.1000)",
        "  a2                   [no cache data]",
        "",
        "=" * 70,
        "Aggregate Cache Statistics:",
        "-" * 70,
        "  Total requests with cache data:     10",
        "  Total prompt tokens:                5,000",
        "  Total cached tokens:                4,000",
        "  Total cache creation tokens:        10",
        "  Overall cache hit rate:             80.0%",
        "  Est. cache savings (50% discount):  $0.0020",
        "=" * 70,
    ]


def test_without_any_data_it_says_so(tmp_path: Path) -> None:
    finish(tmp_path, "a")
    assert "No cache data recorded for this run." in generate_cache_report(str(tmp_path))


def test_an_empty_run_says_so(tmp_path: Path) -> None:
    assert "No model directories found." in generate_cache_report(tmp_path)


@pytest.mark.parametrize("content", ["{corrupt", '{"cache": 5}', '{"cache": {"request_count": "x"}}', "[]"])
def test_a_corrupt_summary_has_no_data(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "summary.json").write_text(content)
    assert "[no cache data]" in generate_cache_report(tmp_path)


def test_escapes_in_a_folder_s_name_are_not_printed(tmp_path: Path) -> None:
    finish(tmp_path, "a\x1b[31m")
    assert "\x1b" not in generate_cache_report(tmp_path)


def test_the_report_on_the_latest_run_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finish(tmp_path / "run-1", "a")
    main(runs_dir=tmp_path)
    assert "Cache Analytics Report: run-1" in capsys.readouterr().out


@pytest.mark.parametrize("run_id", [None, "absent", ".."])
def test_without_such_a_run_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], run_id: str | None) -> None:
    (tmp_path / "runs").mkdir()
    main(run_id, tmp_path / "runs")
    assert "No runs found in" in capsys.readouterr().out


def keep_books(run: Path, *calls: CallFacts) -> None:
    """A ledger with calls of the account `a1`."""
    run.mkdir(exist_ok=True)
    store = open_store(run)
    open_account(store, "a1", 10**12)
    for number, facts in enumerate(calls):
        store.commit(reserve(f"r{number}", 100, "a1"))
        store.commit(Post(f"r{number}", 10, facts))
    store.close()


FIRST = CallFacts("m/x", prompt_tokens=2000, conversation="c0ffee", cache_miss="first_call", cache_saved_pusd=0)
HIT = CallFacts("m/x", prompt_tokens=2000, cached_tokens=1500, conversation="c0ffee", cache_saved_pusd=25 * 10**8)
CHANGED = CallFacts("m/x", prompt_tokens=2000, conversation="c0ffee", cache_miss="message 3 (tool)", cache_saved_pusd=0)


def test_behind_the_known_form_the_ledger_tells_of_models_conversations_and_reasons(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    finish(run, "a1", cost_usd=0.1, cache=CacheStats(5000, 4000, 10, 10, 8))
    known = generate_cache_report(run)
    keep_books(run, FIRST, HIT, CHANGED, CHANGED)
    told = generate_cache_report(run)
    assert told.startswith(known)
    assert told.removeprefix(known).strip().splitlines() == [
        "From the ledger, by model:",
        "-" * 70,
        "  m/x                                   1 of 4    calls hit   18.8% of     8,000 tokens cached  saved $0.0025",
        "  in all                                1 of 4    calls hit   18.8% of     8,000 tokens cached  saved $0.0025",
        "",
        "By conversation:",
        "-" * 70,
        "  a1               c0ffee           1 of 4    calls hit   18.8% of     8,000 tokens cached  saved $0.0025  m/x",
        "                   missed: message 3 (tool) ×2, first_call",
        "",
        "Why caches missed:",
        "-" * 70,
        "  message            2 calls        4,000 tokens  an earlier message changed or went away: only add at the end",
        "  first_call         1 calls        2,000 tokens  the first call of its conversation: there was nothing to read",
    ]


def test_a_ledger_without_summaries_is_enough(tmp_path: Path) -> None:
    keep_books(tmp_path, HIT)
    (tmp_path / "budget").mkdir()
    told = generate_cache_report(tmp_path)
    assert "  a1                   hit_rate= 75.0%  cached=  1500  total=   2000  requests=  1 ($0.0000)\n" in told
    assert "budget" not in told, "a folder of the proxy is no trial"
    assert "no call read less than it could" in told


def test_a_trial_that_has_told_no_tokens_yet_has_no_data(tmp_path: Path) -> None:
    keep_books(tmp_path, CallFacts("m/x"))
    assert "[no cache data]" in generate_cache_report(tmp_path)


def test_of_many_conversations_the_longest_are_shown(tmp_path: Path) -> None:
    keep_books(tmp_path, *(CallFacts("m/x", prompt_tokens=n + 1, conversation=f"c{n}") for n in range(23)))
    told = generate_cache_report(tmp_path)
    assert "and 3 more" in told
    assert "(23 calls without a price)" in told
    assert len(cache_report_json(tmp_path)["ledger"]["conversations"]) == 23


def test_an_unreadable_ledger_leaves_the_summaries(tmp_path: Path) -> None:
    finish(tmp_path, "a1", cache=CacheStats(5000, 4000, 10, 10, 8))
    (tmp_path / "ledger.sqlite3").write_text("this is no database, although it is long enough to be taken for one" * 99)
    assert "hit_rate= 80.0%" in generate_cache_report(tmp_path)
    assert cache_report_json(tmp_path)["ledger"] is None


def test_the_json_has_the_trials_and_the_ledger(tmp_path: Path) -> None:
    run = tmp_path / "run-1"
    finish(run, "a1", cost_usd=0.1, cache=CacheStats(5000, 4000, 10, 10, 8))
    keep_books(run, FIRST, HIT)
    told = cache_report_json(run)
    assert (told["run"], told["trials"]["a1"]["cached_tokens"]) == ("run-1", 4000)
    assert told["ledger"]["total"]["saved_usd"] == "0.0025"
