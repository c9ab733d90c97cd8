"""The output of dead runs' agents is copied once, and noted in the summaries."""

from __future__ import annotations

import errno
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.docker.sweep import EngineLeftover
from agent_preflight.engine.client import Engine
from agent_preflight.sandboxes.kept_output import RECORD, KeptOutput, OutputPolicy
from agent_preflight.sweeping.outputs import KEPT_LATE, Outputs, kept_of
from tests.agent_preflight.docker.conftest import client, scripted, short_dir
from tests.agent_preflight.sandboxes.test_tar_stream import archive, member
from tests.support.scripted_engine import Fail, ScriptedEngine

__all__ = ["client", "scripted", "short_dir"]

pytestmark = pytest.mark.wire

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


async def test_an_output_is_copied_and_told(client: Engine, agent: EngineLeftover, run_dir: Path) -> None:
    outputs = Outputs()
    assert await outputs.keep(client, agent)
    assert (run_dir / "a" / "workspace" / "x").read_text() == "answer"
    assert outputs.notes == [f"output of {run_dir}/a copied: 1 files in {run_dir}/a/workspace"]
    assert outputs.trouble == []


async def test_what_was_copied_before_is_not_copied_again(
    client: Engine, scripted: ScriptedEngine, agent: EngineLeftover, run_dir: Path
) -> None:
    await Outputs().keep(client, agent)
    scripted.calls.clear()
    assert await Outputs().keep(client, agent)
    assert scripted.calls == []
    assert not (run_dir / "a" / "workspace.1").exists()


async def test_the_copy_of_another_container_does_not_count(
    client: Engine, agent: EngineLeftover, run_dir: Path
) -> None:
    (run_dir / "a" / "workspace").mkdir()
    KeptOutput(str(run_dir / "a" / "workspace")).write_record(run_dir / "a", "another")
    assert await Outputs().keep(client, agent)
    assert (run_dir / "a" / "workspace" / "x").read_text() == "answer"
    assert (run_dir / "a" / "workspace.1").is_dir()


async def test_half_a_copy_is_made_anew(client: Engine, agent: EngineLeftover, run_dir: Path) -> None:
    (run_dir / "a" / "workspace.partial").mkdir()
    (run_dir / "a" / "workspace.partial" / "half").touch()
    assert await Outputs().keep(client, agent)
    assert sorted(path.name for path in (run_dir / "a").iterdir()) == [RECORD, "workspace"]


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


async def test_a_folder_that_no_engine_can_read_keeps_no_container_for_ever(
    client: Engine, scripted: ScriptedEngine, agent: EngineLeftover
) -> None:
    scripted.script("* /containers/*/archive", Fail(500, "too many links"))
    outputs = Outputs()
    assert await outputs.keep(client, agent)
    assert "the limit was what the engine could read" in outputs.notes[-1]
    await scripted.stop()
    assert await outputs.keep(client, agent)  # it is known by its record


async def test_an_engine_that_is_away_leaves_the_container(
    client: Engine, scripted: ScriptedEngine, agent: EngineLeftover
) -> None:
    await scripted.stop()
    outputs = Outputs()
    assert not await outputs.keep(client, agent)
    assert len(outputs.trouble) == 1


@pytest.mark.parametrize("label", ["", "nonsense", "null"])
async def test_without_a_label_nothing_is_copied(
    client: Engine, scripted: ScriptedEngine, agent: EngineLeftover, label: str
) -> None:
    scripted.calls.clear()
    assert await Outputs().keep(client, EngineLeftover(agent.run_dir, "run", "a", "agent", agent.id, label))
    assert scripted.calls == []


@pytest.mark.parametrize("alias", ["..", "", ".", "../a", "/tmp", "link", "b/../a", "missing"])
async def test_a_name_that_is_no_trials_folder_is_written_to_by_nobody(
    client: Engine, scripted: ScriptedEngine, agent: EngineLeftover, run_dir: Path, tmp_path: Path, alias: str
) -> None:
    (tmp_path / "outside").mkdir()
    (run_dir / "link").symlink_to(tmp_path / "outside")
    scripted.calls.clear()
    assert await Outputs().keep(client, EngineLeftover(run_dir, "run", alias, "agent", agent.id, agent.output))
    assert scripted.calls == []
    assert list((tmp_path / "outside").iterdir()) == []


async def test_the_summary_of_a_trial_that_had_to_wait_is_completed(
    client: Engine, agent: EngineLeftover, run_dir: Path
) -> None:
    path = summary(run_dir, {"kill": "ok", "output": "unverified", "agent": "unverified", "sandbox": "unverified"})
    outputs = Outputs()
    await outputs.keep(client, agent)
    outputs.gone(agent)
    told = extra(path)
    assert set(told["cleanup"].values()) == {"ok"}
    assert (told["output"]["files"], told["warnings"]) == (1, ["w", KEPT_LATE])


async def test_what_else_was_not_seen_to_be_gone_stays_so(client: Engine, agent: EngineLeftover, run_dir: Path) -> None:
    path = summary(run_dir, {"output": "unverified", "agent": "unverified", "gate": "failed", "sandbox": "failed"})
    outputs = Outputs()
    await outputs.keep(client, agent)
    outputs.gone(agent)
    assert extra(path)["cleanup"] == {"output": "ok", "agent": "ok", "gate": "failed", "sandbox": "failed"}


async def test_a_summary_that_needs_nothing_is_not_touched(
    client: Engine, agent: EngineLeftover, run_dir: Path
) -> None:
    for cleanup in ({"output": "ok", "agent": "unverified"}, {"freeze": "ok"}):
        path = summary(run_dir, cleanup)
        before = path.read_bytes()
        outputs = Outputs()
        await outputs.keep(client, agent)
        outputs.gone(agent)
        assert path.read_bytes() == before


def test_a_record_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    assert kept_of(tmp_path) is None
    (tmp_path / RECORD).write_text('{"container": "c", "output": {"files": "x"}}')
    assert kept_of(tmp_path) is None
    KeptOutput("/w", 1, 2).write_record(tmp_path, "c")
    assert (kept_of(tmp_path), kept_of(tmp_path, "d")) == (KeptOutput("/w", 1, 2), None)
