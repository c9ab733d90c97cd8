"""The cache report in its known form."""

import json
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.cache_report import generate_cache_report, main
from agent_preflight.models import CacheStats, RunResult


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
    assert "No cache data was recorded in this run." in generate_cache_report(str(tmp_path))


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
