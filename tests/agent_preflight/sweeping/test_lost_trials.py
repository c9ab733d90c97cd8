"""A sweep copies the output of dead runs' agents once, and writes or completes the summaries of their trials."""

from __future__ import annotations

import errno
import json
import os
import tarfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from agent_preflight.base.usd import pusd
from agent_preflight.docker.sweep import EngineLeftover
from agent_preflight.engine.client import Engine
from agent_preflight.sandboxes.kept_output import RECORD, KeptOutput, OutputPolicy
from agent_preflight.sweeping.lost_trials import (
    KEPT_LATE,
    SETTLED_LATE,
    Outputs,
    completed,
    kept_of,
    write_lost_summaries,
)
from preflight_proxy.core.ledger.account_changes import with_ended
from preflight_proxy.core.ledger.commands import Post
from preflight_proxy.core.ledger.rows import Account, CallFacts
from tests.agent_preflight.docker.conftest import client, scripted, short_dir
from tests.agent_preflight.sandboxes.test_tar_stream import archive, member
from tests.support.ledger_on_disk import call, open_account, open_store, reserve
from tests.support.scripted_engine import Fail, ScriptedEngine

__all__ = ["client", "scripted", "short_dir"]

OUTPUT = "/workspace/output"


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """The folder of a dead run with one trial."""
    (tmp_path / "run" / "a").mkdir(parents=True)
    return tmp_path / "run"


@pytest.fixture
async def agent(client: Engine, scripted: ScriptedEngine, run_dir: Path) -> EngineLeftover:
    """The trial's stopped container, which has a file in its output folder."""
    made = await client.create("one", {"Image": "me/agent"}, "creating")
    whole = archive([(member("output", tarfile.DIRTYPE), b""), (member("output/x"), b"answer")])
    scripted.container("one").contents[OUTPUT] = whole
    return EngineLeftover(run_dir, "run", "a", "agent", made, OutputPolicy(OUTPUT).text())


def summary(run_dir: Path, cleanup: dict[str, str]) -> Path:
    path = run_dir / "a" / "summary.json"
    path.write_text(json.dumps({"alias": "a", "preflight": {"cleanup": cleanup, "warnings": ["w"], "output": {}}}))
    return path


def extra(path: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(path.read_text())["preflight"]
    return told


@pytest.mark.wire
async def test_an_output_is_copied_and_reported(client: Engine, agent: EngineLeftover, run_dir: Path) -> None:
    outputs = Outputs()
    assert await outputs.keep(client, agent)
    assert (run_dir / "a" / "workspace" / "x").read_text() == "answer"
    assert outputs.notes == [f"output of {run_dir}/a copied: 1 files in {run_dir}/a/workspace"]
    assert outputs.trouble == []


@pytest.mark.wire
async def test_an_output_is_not_copied_twice(
    client: Engine, scripted: ScriptedEngine, agent: EngineLeftover, run_dir: Path
) -> None:
    await Outputs().keep(client, agent)
    scripted.calls.clear()
    assert await Outputs().keep(client, agent)
    assert scripted.calls == []
    assert not (run_dir / "a" / "workspace.1").exists()


@pytest.mark.wire
async def test_the_copy_of_another_container_does_not_count(
    client: Engine, agent: EngineLeftover, run_dir: Path
) -> None:
    (run_dir / "a" / "workspace").mkdir()
    KeptOutput(str(run_dir / "a" / "workspace")).write_record(run_dir / "a", "another")
    assert await Outputs().keep(client, agent)
    assert (run_dir / "a" / "workspace" / "x").read_text() == "answer"
    assert (run_dir / "a" / "workspace.1").is_dir()


@pytest.mark.wire
async def test_an_incomplete_copy_is_made_again(client: Engine, agent: EngineLeftover, run_dir: Path) -> None:
    (run_dir / "a" / "workspace.partial").mkdir()
    (run_dir / "a" / "workspace.partial" / "half").touch()
    assert await Outputs().keep(client, agent)
    assert sorted(path.name for path in (run_dir / "a").iterdir()) == [RECORD, "workspace"]


@pytest.mark.wire
async def test_a_full_disk_leaves_the_container_for_another_sweep(
    client: Engine, agent: EngineLeftover, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("agent_preflight.sandboxes.output_folder.os.write", full)
        outputs = Outputs()
        assert not await outputs.keep(client, agent)
    assert "No space left on device; its stopped container stays" in outputs.trouble[0]
    assert await outputs.keep(client, agent)
    assert (run_dir / "a" / "workspace" / "x").read_text() == "answer"


@pytest.mark.wire
async def test_a_container_is_removed_even_if_no_engine_can_read_its_folder(
    client: Engine, scripted: ScriptedEngine, agent: EngineLeftover
) -> None:
    scripted.script("* /containers/*/archive", Fail(500, "too many links"))
    outputs = Outputs()
    assert await outputs.keep(client, agent)
    assert "the limit was what the engine could read" in outputs.notes[-1]
    await scripted.stop()
    assert await outputs.keep(client, agent)  # it is known by its record


@pytest.mark.wire
async def test_the_container_stays_if_the_engine_does_not_answer(
    client: Engine, scripted: ScriptedEngine, agent: EngineLeftover
) -> None:
    await scripted.stop()
    outputs = Outputs()
    assert not await outputs.keep(client, agent)
    assert len(outputs.trouble) == 1


@pytest.mark.wire
@pytest.mark.parametrize("label", ["", "nonsense", "null"])
async def test_without_a_label_nothing_is_copied(
    client: Engine, scripted: ScriptedEngine, agent: EngineLeftover, label: str
) -> None:
    scripted.calls.clear()
    assert await Outputs().keep(client, EngineLeftover(agent.run_dir, "run", "a", "agent", agent.id, label))
    assert scripted.calls == []


@pytest.mark.wire
@pytest.mark.parametrize("alias", ["..", "", ".", "../a", "/tmp", "link", "b/../a", "missing"])
async def test_nothing_is_written_for_an_alias_that_names_no_trial_folder(
    client: Engine, scripted: ScriptedEngine, agent: EngineLeftover, run_dir: Path, tmp_path: Path, alias: str
) -> None:
    (tmp_path / "outside").mkdir()
    (run_dir / "link").symlink_to(tmp_path / "outside")
    scripted.calls.clear()
    assert await Outputs().keep(client, EngineLeftover(run_dir, "run", alias, "agent", agent.id, agent.output))
    assert scripted.calls == []
    assert list((tmp_path / "outside").iterdir()) == []


@pytest.mark.wire
async def test_the_summary_is_completed_once_the_output_is_copied(
    client: Engine, agent: EngineLeftover, run_dir: Path
) -> None:
    path = summary(run_dir, {"kill": "ok", "output": "unverified", "agent": "unverified", "sandbox": "unverified"})
    outputs = Outputs()
    await outputs.keep(client, agent)
    outputs.gone(agent)
    told = extra(path)
    assert set(told["cleanup"].values()) == {"ok"}
    assert (told["output"]["files"], told["warnings"]) == (1, ["w", KEPT_LATE])


@pytest.mark.wire
async def test_other_steps_that_are_not_verified_stay_so(client: Engine, agent: EngineLeftover, run_dir: Path) -> None:
    path = summary(run_dir, {"output": "unverified", "agent": "unverified", "gate": "failed", "sandbox": "failed"})
    outputs = Outputs()
    await outputs.keep(client, agent)
    outputs.gone(agent)
    assert extra(path)["cleanup"] == {"output": "ok", "agent": "ok", "gate": "failed", "sandbox": "failed"}


@pytest.mark.wire
async def test_a_summary_whose_output_is_complete_is_not_changed(
    client: Engine, agent: EngineLeftover, run_dir: Path
) -> None:
    for cleanup in ({"output": "ok", "agent": "unverified"}, {"freeze": "ok"}):
        path = summary(run_dir, cleanup)
        before = path.read_bytes()
        outputs = Outputs()
        await outputs.keep(client, agent)
        outputs.gone(agent)
        assert path.read_bytes() == before


def test_an_unreadable_record_counts_as_none(tmp_path: Path) -> None:
    assert kept_of(tmp_path) is None
    (tmp_path / RECORD).write_text('{"container": "c", "output": {"files": "x"}}')
    assert kept_of(tmp_path) is None
    KeptOutput("/w", 1, 2).write_record(tmp_path, "c")
    assert (kept_of(tmp_path), kept_of(tmp_path, "d")) == (KeptOutput("/w", 1, 2), None)


KEY = "agent-preflight:r:a:1"


def run_with(tmp_path: Path, *aliases: str) -> Path:
    trials = [
        {"alias": each, "model_id": "m/x", "budget_usd": "0.25", "key_name": KEY, "key_room_usd": "0.61"}
        for each in aliases
    ]
    (tmp_path / "plan.json").write_text(json.dumps({"network": "sealed", "trials": trials}))
    (tmp_path / aliases[0]).mkdir()
    return tmp_path


def summary_of(run_dir: Path, alias: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((run_dir / alias / "summary.json").read_text())
    return document


def test_a_trial_without_a_ledger_has_no_cost(tmp_path: Path) -> None:
    run_dir = run_with(tmp_path, "a")
    notes = write_lost_summaries(run_dir, {}, engine_clean=False)
    assert any("nothing was spent" in note for note in notes)
    written = summary_of(run_dir, "a")
    assert (written["cost_usd"], written["budget_usd"], written["preflight"]["network"]) == (None, 0.25, "sealed")
    assert written["preflight"]["cleanup"]["sandbox"] == written["preflight"]["cleanup"]["sub_key"] == "unverified"
    assert written["preflight"]["key_room_usd"] == "0.61"


def test_a_lost_summary_has_the_posted_and_the_pending_cost(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store)
    for name in ("r1", "r2"):
        store.commit(reserve(name))
    store.commit(Post("r1", 10, CallFacts("m/x", prompt_tokens=2000)))
    store.note(with_ended(store.state.accounts["a"], None, overtaken=False))
    store.close()
    run_dir = run_with(tmp_path, "a")
    (run_dir / "a" / "events.jsonl").write_text(
        '{"timestamp": "2027-01-01T00:00:00+00:00", "type": "tool_execution_start"}\n'
    )
    (note,) = write_lost_summaries(run_dir, {KEY: None}, engine_clean=True)
    assert "$0.0000000001 not known yet" in note
    written = summary_of(run_dir, "a")
    assert written["started_at"] == "2027-01-01T00:00:00+00:00"
    assert (written["tool_calls"], written["events_count"]) == (1, 1)
    assert (written["preflight"]["posted_usd"], written["preflight"]["served"]) == ("0.00000000001", 1)
    assert written["preflight"]["cleanup"] == {"freeze": "ok", "sandbox": "ok", "settle": "unverified", "sub_key": "ok"}


def test_an_existing_summary_stays_and_a_trial_that_never_began_gets_none(tmp_path: Path) -> None:
    run_dir = run_with(tmp_path, "a", "never")
    (run_dir / "a" / "summary.json").write_text("{}")
    write_lost_summaries(run_dir, {}, engine_clean=True)
    assert summary_of(run_dir, "a") == {}
    assert not (run_dir / "never").exists()


def test_an_open_summary_is_completed_once_its_key_is_gone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store)
    store.commit(reserve("r1"))
    run_dir = run_with(tmp_path, "a")
    write_lost_summaries(run_dir, {}, engine_clean=True)
    store.commit(Post("r1", 10))
    store.close()
    assert write_lost_summaries(run_dir, {}, engine_clean=True) == []
    write_lost_summaries(run_dir, {KEY: Decimal("0.00000000001")}, engine_clean=True)
    written = summary_of(run_dir, "a")["preflight"]
    assert (written["posted_usd"], written["pending_usd"], written["drift_usd"]) == ("0.00000000001", "0", "0")
    assert set(written["cleanup"].values()) == {"ok"}


def test_the_drift_of_an_attempt_excludes_what_earlier_attempts_spent(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    open_account(store, key_hash="first", key_is_own=True, key_usage_pusd=0)
    call(store, "r1", 10)
    open_account(store, key_hash="second", key_is_own=True, key_usage_pusd=0)
    call(store, "r2", 20)
    store.close()
    run_dir = run_with(tmp_path, "a")
    write_lost_summaries(run_dir, {KEY: Decimal("0.00000000002")}, engine_clean=True)
    written = summary_of(run_dir, "a")["preflight"]
    assert (written["spent_before_usd"], written["drift_usd"]) == ("0.00000000001", "0")


OPEN: dict[str, Any] = {
    "alias": "a",
    "cost_usd": 0.1,
    "preflight": {
        "ended_by": "agent_end",
        "posted_usd": "0.1",
        "pending_usd": "0.05",
        "drift_usd": "0.02",
        "warnings": ["it was slow"],
        "cleanup": {"freeze": "ok", "settle": "unverified", "account": "unverified", "sub_key": "unverified"},
    },
}
ACCOUNT = Account(
    "a", "r", pusd("1"), pusd("0.12"), assumed_pusd=pusd("0.02"), calls=3, key_usage_base_pusd=-pusd("0.1")
)
"""An account whose earlier attempts spent $0.10."""


def test_a_completed_summary_has_the_late_figures_and_every_step_is_ok() -> None:
    summary = completed(OPEN, ACCOUNT, Decimal("0.020"))
    assert summary is not None
    extra = summary["preflight"]
    assert (summary["alias"], summary["cost_usd"], extra["ended_by"], extra["calls"]) == ("a", 0.12, "agent_end", 3)
    amounts = [extra[f"{name}_usd"] for name in ("posted", "pending", "assumed", "key_usage", "drift")]
    assert amounts == ["0.12", "0", "0.02", "0.02", "0"]
    assert extra["cleanup"] == {"freeze": "ok", "settle": "ok", "account": "ok", "sub_key": "ok"}
    assert extra["warnings"] == ["it was slow", SETTLED_LATE]


def test_without_a_usage_figure_the_earlier_drift_stays() -> None:
    summary = completed(OPEN, ACCOUNT, None)
    assert summary is not None
    assert summary["preflight"]["drift_usd"] == "0.02"


def test_a_complete_summary_is_not_completed_again() -> None:
    whole = {**OPEN, "preflight": {**OPEN["preflight"], "cleanup": {"settle": "ok", "sub_key": "ok"}}}
    assert completed(whole, ACCOUNT, None) is None
    assert completed({"preflight": []}, ACCOUNT, None) is None


def test_nothing_is_completed_while_a_call_is_pending_or_without_an_account() -> None:
    assert completed(OPEN, replace(ACCOUNT, pending_pusd=1), None) is None
    assert completed(OPEN, None, None) is None


def test_a_lost_trial_of_a_run_with_scores_has_none_with_its_reason(tmp_path: Path) -> None:
    run_dir = run_with(tmp_path, "a")
    plan = json.loads((run_dir / "plan.json").read_text())
    (run_dir / "plan.json").write_text(json.dumps({**plan, "score": {"command": "echo 1"}, "tags": {"a": "b"}}))
    write_lost_summaries(run_dir, {}, engine_clean=True)
    score = summary_of(run_dir, "a")["preflight"]["score"]
    assert (score["score"], score["success"]) == (None, None)
    assert score["reason"] == "the runner was lost before the trial's end"
    assert summary_of(run_dir, "a")["preflight"]["tags"] == {"a": "b"}
