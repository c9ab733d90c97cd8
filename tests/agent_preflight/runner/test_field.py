"""A whole run: its order, its files, its end."""

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.models import RunResult
from agent_preflight.preflight import PreflightError
from agent_preflight.runner.api import request_of, run_multi
from agent_preflight.runner.field import run_field
from agent_preflight.runner.loop import StopSignal, run_blocking
from agent_preflight.runner.messages import stopping
from agent_preflight.runner.progress import RunProgress
from agent_preflight.sidecar import keeper
from agent_preflight.sidecar.keeper import own_process
from openrouter_sim import Simulator
from preflight_proxy.base.config import Config, read_config, user_counts_file
from preflight_proxy.core.errors import OperatingError, UpstreamError
from tests.agent_preflight.conftest import Script, ScriptedServer
from tests.support.live_field import LiveField
from tests.support.scripted_engine import ScriptedEngine
from tests.support.trial_field import MODEL, Field

pytestmark = pytest.mark.wire

ONE_CALL = "say('tool_execution_start'); status, _ = call(); say('agent_end', status=status)"


def test_results_come_in_the_order_of_the_models_with_the_ledgers_costs(trials: Field) -> None:
    slow = "time.sleep(0.3); call(); say('agent_end')"
    results = trials.run({"slow": slow, "fast": ONE_CALL})
    assert [(result.alias, result.error) for result in results] == [("slow", None), ("fast", None)]
    assert all(result.cost_usd for result in results)
    assert results[1].tool_calls == 1
    assert results[1].preflight["calls"] == 1


def test_the_files_of_a_run_are_private_and_hold_no_real_key(trials: Field) -> None:
    trials.run({"a": ONE_CALL}, env={"X": "1"})
    run = trials.run_dirs[0]
    names = {path.name for path in run.iterdir()}
    assert {"lock", "plan.json", "ledger.sqlite3", "costs.jsonl", "proxy.log", "a"} <= names
    assert {"events.jsonl", "summary.json", "run.log", "stderr.log", "budget"} <= {
        p.name for p in (run / "a").iterdir()
    }
    secrets = [trials.simulator.admin_key, trials.simulator.inference_key, "sk-or-"]
    for path in (path for path in run.rglob("*") if path.is_file()):
        content = path.read_bytes()
        assert not any(secret.encode() in content for secret in secrets), path
        agents_own = path.is_relative_to(run / "a" / "budget") or path.is_relative_to(run / "a" / "workspace")
        assert agents_own or path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ("measured", "write", True, True)),
        (
            {"bound": "proven", "cache_bound": "billed", "weigh": False, "share_preambles": False},
            ("proven", "billed", False, False),
        ),
    ],
)
def test_a_runs_proxy_gets_the_bounds_and_the_users_counts(
    trials: Field, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], expected: tuple[object, ...]
) -> None:
    configs: list[Config] = []

    async def noting(module: str, *arguments: str, config: bytes = b"", **more: Any) -> Any:
        configs.append(read_config(config))
        return await own_process(module, *arguments, config=config, **more)

    monkeypatch.setattr(keeper, "own_process", noting)
    trials.run({"a": ONE_CALL}, **options)
    (config,) = configs
    assert (config.bound, config.cache_bound, config.weigh, config.share_preambles) == expected
    assert config.shared_counts_file == str(user_counts_file())


def test_the_room_of_a_sub_key_is_in_its_limit_the_plan_and_the_summary(trials: Field) -> None:
    trials.run({"a": ONE_CALL}, cache_bound="billed", run_id="r")
    room_usd = Decimal(trials.summary("a")["preflight"]["key_room_usd"])
    assert room_usd > Decimal("0.01")
    (planned,) = json.loads((trials.run_dirs[0] / "plan.json").read_text())["trials"]
    assert Decimal(planned["key_room_usd"]) == room_usd
    (key,) = [key for key in trials.simulator.account.keys.values() if ":a:" in key.name]
    assert key.limit == Decimal("0.05") + room_usd


def test_a_run_whose_keys_room_is_not_known_starts_nothing(
    trials: Field, serve: Callable[[Script], ScriptedServer]
) -> None:
    serve(lambda seen: (200, {"data": []}) if seen.path.startswith("/keys") else (503, {}))
    with pytest.raises(
        UpstreamError, match=rf"prices of {MODEL}.* Nothing was spent\. Try again, or leave cache_bound at"
    ):
        trials.run({"a": ONE_CALL}, cache_bound="billed")
    assert trials.run_dirs == []


def test_two_runs_in_the_same_second_get_different_folders(trials: Field) -> None:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(trials.run, {"a": ONE_CALL}) for _ in range(2)]
    assert [future.result()[0].error for future in both] == [None, None]
    assert len(trials.run_dirs) == 2


def test_an_exception_in_on_complete_does_not_change_results(trials: Field) -> None:
    told: list[str] = []

    def on_complete(run_dir: Path, result: RunResult) -> None:
        told.append(result.alias)
        if result.alias == "a":
            raise ValueError("my own bug")

    results = trials.run({"a": ONE_CALL, "b": ONE_CALL}, on_complete=on_complete)
    assert [result.error for result in results] == [None, None]
    assert sorted(told) == ["a", "b"]
    assert any("my own bug" in line for line in trials.said)


def test_a_trial_that_gets_no_key_is_a_result_with_a_summary(trials: Field) -> None:
    (result,) = trials.run({"a": ONE_CALL}, admin_key="sk-or-wrong")
    assert result.error is not None
    assert result.error.startswith("provisioning_failed: ")
    assert result.cost_usd is None
    assert trials.summary("a")["preflight"]["ended_by"] == "provisioning"


def test_an_interrupted_run_ends_its_trials_in_order_and_starts_no_others(trials: Field) -> None:
    stop = StopSignal()
    agents = {"a": "call(); say('ready'); time.sleep(60)", "b": ONE_CALL}
    options = trials.options(agents, max_workers=1, on_event=lambda event: stop.press())
    request = request_of({"models": [(MODEL, "a"), (MODEL, "b")], **options})
    alerts: list[str] = []
    titles: list[str] = []
    progress = RunProgress(on_alert=alerts.append, on_begin=lambda run_dir, title: titles.append(title))
    finished = run_blocking(lambda stop: run_field(request, stop, progress), stop)
    assert alerts == [stopping("press Ctrl-C again")]
    assert trials.said.count(alerts[0]) == 1
    run_id = finished.run_dir.name
    (title,) = titles
    assert title.startswith(f"{run_id}: press Ctrl-C to stop it, ")
    assert title.endswith(f": agent-preflight stop {run_id} --runs-dir {trials.runs_dir}")
    assert [(result.alias, result.error) for result in finished.results] == [("a", "interrupted")]
    assert set(trials.summary("a")["preflight"]["cleanup"].values()) == {"ok"}
    assert not (finished.run_dir / "b").exists()


def test_a_failed_preflight_starts_nothing(trials: Field) -> None:
    with pytest.raises(PreflightError):
        trials.run(
            {"a": ONE_CALL}, skip_preflight=False, preflight_kwargs={"models": ["no/such"], "checks": ["models"]}
        )
    assert not any(key.name.startswith("agent-preflight:") for key in trials.simulator.bill().keys.values())


def test_a_run_works_in_any_thread_and_trials_can_run_one_by_one(trials: Field) -> None:
    seen: list[Any] = []
    sources = {"a": "say('a')", "b": "say('b')"}
    options = {"parallel": False, "on_event": lambda event: seen.append(event.get("notice", event["type"]))}
    thread = threading.Thread(target=lambda: trials.run(sources, **options))
    thread.start()
    thread.join()
    assert seen == ["a", "b", "run_done"]


def test_a_log_fn_that_raises_does_not_prevent_the_end_of_a_trial(trials: Field) -> None:
    def broken(line: str) -> None:
        if line.startswith("[a]"):
            raise BrokenPipeError

    (result,) = trials.run({"a": "call(); time.sleep(60)"}, log_fn=broken, idle_timeout_s=0.5)
    assert result.error is not None
    assert "no events" in result.error
    assert set(result.preflight["cleanup"].values()) == {"ok"}


def test_a_proxy_that_does_not_start_is_the_runs_error_and_nothing_is_left(
    simulator: Simulator, docker_host: ScriptedEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trials are set up beside the proxy's start: what they made is undone, and there is no account to settle."""

    async def broken(module: str, *arguments: str, **options: Any) -> Any:
        return await own_process("preflight_proxy.no_such_module", *arguments, **options)

    monkeypatch.setattr(keeper, "own_process", broken)
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", "me/base")
    docker_host.state.images["me/base"] = docker_host.state.images["me/agent"] | {"Id": "sha256:base"}
    with pytest.raises(OperatingError, match="no_such_module"):
        run_multi(
            [(MODEL, "a")],
            image_name="me/agent",
            admin_key=simulator.admin_key,
            or_key="",
            budget_usd=0.01,
            runs_dir=tmp_path / "runs",
            run_id="r",
            network="sealed",
            gate="shared",
            skip_preflight=True,
            openrouter_base_url=simulator.base_url,
            log_fn=lambda *_: None,
        )
    summary = json.loads((tmp_path / "runs" / "r" / "a" / "summary.json").read_text())
    assert set(summary["preflight"]["cleanup"].values()) == {"ok"}
    assert docker_host.state.containers == {}
    assert all(key.deleted for key in simulator.bill().keys.values() if key.name.startswith("agent-preflight:"))


def test_a_ledger_that_is_deleted_under_a_run_is_reported_at_once(trials: Field, tmp_path: Path) -> None:
    """Before any call is refused for it; no further call is sent, and the run ends in order."""
    trials.may_differ = True  # the ledger's part of the comparison is gone
    flag = tmp_path / "go"
    source = f"""
        call(); say('ready')
        while not os.path.exists({str(flag)!r}): time.sleep(0.02)
        say('asked', status=call()[0])
    """
    with LiveField(trials, {"a": source}) as live:
        (live.run_dir / "ledger.sqlite3").unlink()
        until_s = time.monotonic() + 30
        while not any("gone from its place" in line for line in trials.said) and time.monotonic() < until_s:
            time.sleep(0.05)
        flag.touch()
        live.results()
    (told,) = [line for line in trials.said if "gone from its place" in line]
    assert "sends no further call" in told
    events = [json.loads(line) for line in (live.run_dir / "a" / "events.jsonl").read_text().splitlines()]
    assert [event["status"] for event in events if event["type"] == "asked"] == [402]
