"""The metrics of a ledger: what is scraped equals the ledger, counters never fall, and labels stay few and harmless."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from agent_preflight.base.usd import usd
from agent_preflight.operate.metrics import LABEL_VALUES_MAX, OTHER, LedgerCollector, serve_metrics
from agent_preflight.runs.costs import accounts_of, cost_lines, sums_of
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.ledger.account_changes import with_refused
from preflight_proxy.core.ledger.commands import OpenAccount, Post, Void
from preflight_proxy.core.ledger.rows import CallFacts
from preflight_proxy.core.refusals.outcomes import refused
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.ledger.store import Store
from tests.docs.pages import ROOT
from tests.support.ledger_on_disk import call, open_account, open_store, reserve
from tests.support.run_on_disk import CENT, keep_ledger

Sample = tuple[str, ...]


def scraped(collector: LedgerCollector) -> dict[Sample, float]:
    """Return what a scrape has, by name and values of labels."""
    registry = CollectorRegistry()
    registry.register(collector)
    return samples(generate_latest(registry).decode())


def samples(text: str) -> dict[Sample, float]:
    families = text_string_to_metric_families(text)
    return {
        (sample.name.removeprefix("agent_preflight_"), *(sample.labels[name] for name in sorted(sample.labels))): (
            sample.value
        )
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def post(store: Store, name: str, account: str, cost_pusd: int, facts: CallFacts) -> None:
    store.commit(reserve(name, cost_pusd, account))
    store.commit(Post(name, cost_pusd, facts))


def refuse(store: Store) -> None:
    """Count one refused call of the account `a`."""
    store.note(with_refused(store.state.accounts["a"], refused(Code.DOES_NOT_FIT, "m/x")))


def test_each_figure_is_the_ledgers(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store, "a", 25 * CENT)
    facts = CallFacts(
        prompt_tokens=2000,
        cached_tokens=500,
        cache_write_tokens=30,
        completion_tokens=70,
        reasoning_tokens=20,
        ttft_ms=300,
        duration_ms=4000,
    )
    post(store, "one", "a", 123_456_789, facts)
    post(store, "two", "a", 10**9, CallFacts("other/model", prompt_tokens=5, ttft_ms=100, duration_ms=200))
    call(store, "three", 4, "a")
    store.commit(replace(reserve("weighing", 3, "a"), purpose="weighing"))  # the proxy's own: it costs, and is no call
    store.commit(Post("weighing", 3))
    store.commit(reserve("nothing", 5, "a"))
    store.commit(Void("nothing", "no answer"))
    store.commit(reserve("pending", 2 * CENT, "a"))
    refuse(store)
    refuse(store)
    store.close()
    found = scraped(LedgerCollector(tmp_path))
    account = accounts_of(tmp_path)["a"]
    assert found["up",] == 1
    assert found["spent_dollars", "a", "m/x"] == 0.000123456796
    assert found["spent_dollars", "a", "other/model"] == 0.001
    assert account.posted_pusd == 123_456_796 + 10**9
    assert (found["reserved_dollars", "a"], found["limit_dollars", "a"], found["overrun_dollars", "a"]) == (
        0.02,
        0.25,
        0,
    )
    assert (found["calls_total", "a", "m/x"], found["calls_total", "a", "other/model"]) == (2, 1)
    assert account.calls == 3
    assert found["refusals_total", "a", "does_not_fit"] == account.refused == 2
    tokens = sums_of(list(cost_lines(tmp_path))).tokens
    for kind in ("prompt", "cached", "cache_write", "completion", "reasoning"):
        of_both = [found["tokens_total", "a", kind, model] for model in ("m/x", "other/model")]
        assert sum(of_both) == tokens[f"{kind}_tokens"], kind
    assert (found["call_duration_seconds_count", "m/x"], found["call_duration_seconds_sum", "m/x"]) == (1, 4)
    buckets = [found["call_duration_seconds_bucket", end, "m/x"] for end in ("2.5", "5.0", "1800.0", "+Inf")]
    assert buckets == [0, 1, 1, 1]
    assert (found["first_token_seconds_count", "other/model"], found["first_token_seconds_sum", "m/x"]) == (1, 0.3)
    assert not [sample for sample in found if sample[0] == "drift_dollars"]


def test_a_ledger_that_grows_is_counted_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store, "a", CENT)
    collector = LedgerCollector(tmp_path)
    assert scraped(collector)["up",] == 1
    for count in range(1, 5):
        call(store, f"call {count}", 1000, "a")
        found = scraped(collector)
        assert found["calls_total", "a", "m/x"] == count
        assert found["spent_dollars", "a", "m/x"] == float(usd(count * 1000))
        assert scraped(collector) == found
    store.close()


def test_an_overrun_is_shown(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store)
    store.commit(reserve("r", 100))
    store.commit(Post("r", 104))
    store.close()
    assert scraped(LedgerCollector(tmp_path))["overrun_dollars", "a"] == 4e-12


def test_the_drift_is_shown_where_openrouters_figure_is_known(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for account in ("a", "b"):
        open_account(store, account, CENT, key_hash=f"key of {account}", key_is_own=account == "a", key_usage_pusd=0)
        call(store, f"of {account}", 1000, account)
        (tmp_path / account).mkdir()
        summary = {"finished_at": "2026-12-01T00:00:00+00:00", "preflight": {"key_usage_usd": "0.000000002"}}
        (tmp_path / account / "summary.json").write_text(json.dumps(summary))
    store.close()
    drift = {sample: value for sample, value in scraped(LedgerCollector(tmp_path)).items() if "drift" in sample[0]}
    assert drift == {("drift_dollars", "a"): 1e-9}


def test_the_201st_account_is_other_and_those_before_it_stay(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    collector = LedgerCollector(tmp_path)
    for number in range(300):
        open_account(store, f"a{number}", 1000)
        call(store, f"of {number}", 10, f"a{number}")
        if number == 10:
            early = scraped(collector)
    late = scraped(collector)
    assert all(late[sample] >= value for sample, value in early.items())
    calls = {sample[1]: value for sample, value in late.items() if sample[0] == "calls_total"}
    assert len(calls) == LABEL_VALUES_MAX + 1
    assert (calls["a0"], calls["a199"], calls[OTHER]) == (1, 1, 100)
    limits = {sample[1]: value for sample, value in late.items() if sample[0] == "limit_dollars"}
    assert limits[OTHER] == 1e-7
    call(store, "again", 10, "a299")
    assert scraped(collector)["calls_total", OTHER, "m/x"] == 101
    store.close()


def test_there_are_at_most_200_models_too(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store, "a", 10**6)
    for number in range(LABEL_VALUES_MAX + 5):
        post(store, str(number), "a", 10, CallFacts(f"m/{number}", duration_ms=1))
    store.close()
    found = scraped(LedgerCollector(tmp_path))
    assert found["calls_total", "a", OTHER] == 5
    assert found["call_duration_seconds_count", OTHER] == 5


def test_names_of_agents_and_openrouter_are_harmless_and_no_key_is_shown(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    key = "sk-or-v1-secret"
    store.commit(OpenAccount("a", "run", CENT, "hash of a token", key_hash="hash of a key"))
    hostile = 'm/\x1b[31mx"\n# EOF\nagent_preflight_up 0\u202e' + "y" * 150
    post(store, "r", "a", 10, CallFacts(hostile, generation_id=key, conversation="secret talk", cache_miss="secret"))
    store.close()
    registry = CollectorRegistry()
    registry.register(LedgerCollector(tmp_path))
    text = generate_latest(registry).decode()
    assert not [word for word in ("\x1b", "\u202e", "secret", "sk-or", "hash of") if word in text]
    (model,) = (sample[2] for sample in samples(text) if sample[0] == "calls_total")
    assert model.startswith('m/x" # EOF agent_preflight_up 0')
    assert len(model) == 100
    assert samples(text)["up",] == 1


def test_a_ledger_that_is_missing_or_damaged_makes_up_0_and_counters_stay(tmp_path: Path) -> None:
    collector = LedgerCollector(tmp_path)
    assert scraped(collector) == {("up",): 0}
    keep_ledger(tmp_path, "a")
    good = scraped(collector)
    assert (good["up",], good["calls_total", "a", "m/x"]) == (1, 1)
    ledger = tmp_path / "ledger.sqlite3"
    content = ledger.read_bytes()
    for wrong in (b"no ledger at all" * 500, b"", content[:4096] + b"\xff" * 20_000):
        ledger.write_bytes(wrong)
        bad = scraped(collector)
        assert bad["up",] == 0
        assert bad["calls_total", "a", "m/x"] == 1
        assert not [sample for sample in bad if "dollars" in sample[0]]
    ledger.write_bytes(content)
    assert scraped(collector) == good
    ledger.unlink()
    assert scraped(collector)["up",] == 0


def test_a_ledger_that_does_not_balance_makes_up_0(tmp_path: Path) -> None:
    keep_ledger(tmp_path, "a")
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite3")) as connection, connection:
        connection.execute("DROP TRIGGER entries_update")
        connection.execute("UPDATE entries SET cost_pusd = cost_pusd + 1")
    assert scraped(LedgerCollector(tmp_path))["up",] == 0


def test_one_damaged_ledger_of_several_makes_up_0_and_the_others_are_shown(tmp_path: Path) -> None:
    for run in ("run-1", "run-2", "run-3"):
        keep_ledger(tmp_path / run, "a")
    (tmp_path / "run-2" / "ledger.sqlite3").write_text("none")
    found = scraped(LedgerCollector(tmp_path))
    assert (found["up",], found["spent_dollars", "a", "m/x"], found["limit_dollars", "a"]) == (0, 0.02, 0.5)


def test_a_new_ledger_in_the_place_of_another_is_counted_from_its_start(tmp_path: Path) -> None:
    keep_ledger(tmp_path / "one", "a")
    keep_ledger(tmp_path / "two", "a", "b")
    collector = LedgerCollector(tmp_path / "one")
    scraped(collector)
    (tmp_path / "two" / "ledger.sqlite3").replace(tmp_path / "one" / "ledger.sqlite3")
    found = scraped(collector)
    assert (found["calls_total", "a", "m/x"], found["calls_total", "b", "m/x"]) == (2, 1)
    assert found["spent_dollars", "a", "m/x"] == 0.01


def test_refusals_do_not_fall_when_a_resume_begins_to_count_anew(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    collector = LedgerCollector(tmp_path)
    open_account(store, "a", 100)
    refuse(store)
    refuse(store)
    store.close()
    for _ in range(2):
        assert scraped(collector)["refusals_total", "a", "does_not_fit"] == 2
    store = open_store(tmp_path)
    store.commit(OpenAccount("a", "run", 100, "another token"))
    refuse(store)
    store.close()
    assert accounts_of(tmp_path)["a"].outcomes.unserved == 1
    assert scraped(collector)["refusals_total", "a", "does_not_fit"] == 3


def test_the_runs_of_a_folder_are_summed_by_account(tmp_path: Path) -> None:
    for run in ("run-1", "run-2"):
        keep_ledger(tmp_path / run, "a")
    collector = LedgerCollector(tmp_path)
    assert scraped(collector)["spent_dollars", "a", "m/x"] == 0.02
    keep_ledger(tmp_path / "run-3", "a", "b")
    found = scraped(collector)
    assert (found["spent_dollars", "a", "m/x"], found["calls_total", "a", "m/x"], found["limit_dollars", "b"]) == (
        *(0.03, 3),
        0.25,
    )


def test_scrapes_at_one_time_count_each_call_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store, "a", CENT)
    for number in range(200):
        call(store, str(number), 10, "a")
    store.close()
    collector = LedgerCollector(tmp_path)
    scrapers = [threading.Thread(target=collector.collect) for _ in range(8)]
    for scraper in scrapers:
        scraper.start()
    for scraper in scrapers:
        scraper.join()
    assert scraped(collector)["calls_total", "a", "m/x"] == 200


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"There is no folder {tmp_path}/none"):
        serve_metrics(tmp_path / "none", "127.0.0.1", 0, print)


def test_the_page_lists_each_metric_with_its_labels(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `agent_preflight_(\w+)` \| (\w+) \| (.*?) \|", page, re.MULTILINE)
    listed = {name.removesuffix("_total"): (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    families = {
        family.name.removeprefix("agent_preflight_"): family.type for family in LedgerCollector(tmp_path).collect()
    }
    assert {name: kind for name, (kind, _) in listed.items()} == families
    store = open_store(tmp_path)
    open_account(store, "a", CENT, key_hash="k", key_is_own=True, key_usage_pusd=0)
    post(store, "r", "a", 10, CallFacts(ttft_ms=1, duration_ms=1))
    refuse(store)
    store.close()
    summary = {"finished_at": "2026-12-01T00:00:00+00:00", "preflight": {"key_usage_usd": "0"}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    shown = {
        family.name.removeprefix("agent_preflight_"): set(sample.labels) - {"le"}
        for family in LedgerCollector(tmp_path).collect()
        for sample in family.samples
    }
    assert {name: labels for name, (_, labels) in listed.items()} == shown


@pytest.mark.wire
def test_a_scrape_over_http_is_the_ledger_while_calls_go_on(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store, "a", CENT)
    command = [sys.executable, "-m", "agent_preflight", "metrics", str(tmp_path), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), process.stderr.read()
        for count in (1, 2):
            call(store, f"call {count}", 123_456_789, "a")
            with urllib.request.urlopen(url) as answer:
                text = answer.read().decode()
                assert answer.headers["Content-Type"].startswith("text/plain; version=")
            assert "_created" not in text
            found = samples(text)
            assert (found["up",], found["calls_total", "a", "m/x"]) == (1, count)
            assert found["spent_dollars", "a", "m/x"] == float(usd(accounts_of(tmp_path)["a"].posted_pusd))
        process.send_signal(signal.SIGINT)
        assert process.wait() == 0
        assert process.stderr.read() == ""
    store.close()
