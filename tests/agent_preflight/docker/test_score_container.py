"""A score's command in a real container: what it sees, what it cannot do, and that nothing of it stays."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_preflight import run_multi
from agent_preflight.docker.labels import TrialLabels
from agent_preflight.docker.sweep import sweep
from agent_preflight.engine.client import Engine
from agent_preflight.models import RunResult
from agent_preflight.options.container_options import read_docker_args
from agent_preflight.runs.record import Score
from agent_preflight.scoring.command import score_by_command
from agent_preflight.scoring.container import ScoreContainer, score_config
from openrouter_sim import Simulator
from preflight_proxy.core.errors import ConfigError
from tests.agent_preflight.docker.conftest import containers_of
from tests.support.docker_program import ENGINE

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

MODEL = "openai/gpt-4.1-nano"
WRITES = "mkdir -p /workspace/output; echo 42 > /workspace/output/answer.txt; ln -s /etc/passwd /workspace/output/link"
SUBJECT = 'test "$(cat "$PREFLIGHT_OUTPUT/answer.txt")" = 42 && echo 1 || echo 0'

Scorer = Callable[..., Any]


@pytest.fixture
def score(engine: Engine, base_image: str, tmp_path: Path) -> Scorer:
    """Runs a command in a container, after which nothing of it may be left."""
    output = tmp_path / "workspace"
    output.mkdir(mode=0o700)
    (output / "answer.txt").write_text("42")
    (output / "answer.txt").chmod(0o600)
    labels = TrialLabels("run-1", tmp_path, "nano")

    async def run(command: str, *docker_args: str, timeout_s: float = 60.0, hurry: Any = None) -> Score:
        args = read_docker_args(docker_args, "sealed")
        body = score_config(base_image, command, {"PREFLIGHT_ALIAS": "nano"}, output, labels, args)
        place = ScoreContainer(engine, labels, body)
        found, gone = await score_by_command(place, tmp_path / "score.log", timeout_s, 1.0, hurry or asyncio.Event())
        assert gone == "ok"
        assert containers_of(tmp_path) == []
        return found

    return run


async def test_it_reads_the_output_and_the_last_line_is_the_score(score: Scorer, tmp_path: Path) -> None:
    found = await score(f"echo begins; echo careful >&2; {SUBJECT}")
    assert (found.value, found.reason) == (1.0, None)
    assert sorted((tmp_path / "score.log").read_text().split()) == ["1", "begins", "careful"]


@pytest.mark.parametrize(
    "attempt",
    [
        'echo x > "$PREFLIGHT_OUTPUT/answer.txt"',
        'touch "$PREFLIGHT_OUTPUT/new"',
        'mount -o remount,rw "$PREFLIGHT_OUTPUT"',
        "unshare -r true",
        "test -n \"$(ls /sys/class/net | grep -v '^lo$')\"",
        "python3 -c 'import urllib.request; urllib.request.urlopen(\"http://1.1.1.1\", timeout=3)'",
        "env | grep -i key",
        "test -e /run/preflight",
        "test -e /var/run/docker.sock",
        'test "$(ls -A | wc -l)" != 0',
    ],
)
async def test_it_cannot(score: Scorer, attempt: str) -> None:
    found = await score(f"if {attempt} >&2; then echo 0; else echo 1; fi")
    assert (found.value, found.reason) == (1.0, None)


async def test_it_can_write_and_execute_in_its_own_folder(score: Scorer) -> None:
    found = await score("printf '#!/bin/sh\\necho 0.5\\n' > own; chmod +x own; ./own")
    assert found.value == 0.5


async def test_one_that_hangs_forks_or_floods_is_removed_at_the_time_limit(score: Scorer) -> None:
    found = await score("trap '' TERM; sleep 3600 & setsid sleep 3600 & yes >&2 & yes", timeout_s=3.0)
    assert found.reason == "it took longer than 3 s (score_timeout_s)"


async def test_a_run_that_is_ended_at_once_removes_it(score: Scorer) -> None:
    hurry = asyncio.Event()
    asyncio.get_running_loop().call_later(1.0, hurry.set)
    found = await score("sleep 3600", hurry=hurry)
    assert "cut off" in found.reason


async def test_a_command_that_fails_says_so(score: Scorer) -> None:
    found = await score("echo broke >&2; exit 3")
    assert found.reason == "the command ended with exit code 3: broke"
    found = await score("python3 -c 'bytearray(10**9)[::4096] = bytes(10**9 // 4096 + 1)'; exit $?", "--memory=64m")
    assert "exit code 137" in found.reason


async def test_a_sweep_removes_one_of_a_dead_run(engine: Engine, base_image: str, tmp_path: Path) -> None:
    labels = TrialLabels("run-1", tmp_path, "nano")
    body = score_config(base_image, "sleep 3600", {}, tmp_path, labels, read_docker_args((), "sealed"))
    place = ScoreContainer(engine, labels, body)
    await place.start()
    (tmp_path / "lock").touch()
    report = await sweep(engine, below=[tmp_path])
    assert [thing.role for thing in report.removed] == ["score"]
    assert containers_of(tmp_path) == []
    await place.close()


def run(simulator: Simulator, runs_dir: Path, base: str, script: str, **options: Any) -> list[RunResult]:
    given: dict[str, Any] = {
        "models": [(MODEL, "nano")],
        "image_name": base,
        "admin_key": simulator.admin_key,
        "or_key": simulator.inference_key,
        "budget_usd": 0.05,
        "runs_dir": runs_dir,
        "run_id": "run",
        "network": "sealed",
        "skip_preflight": True,
        "log_fn": lambda line: None,
        "container_args": ["sh", "-c", script],
        **options,
    }
    return run_multi(**given)


def test_a_trial_is_scored_in_a_container_once_its_own_is_gone(
    simulator: Simulator, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)
    runs = tmp_path / "runs"
    options = {"score": f'ls -A "$PREFLIGHT_OUTPUT"; {SUBJECT}', "score_image": base_image}
    (result,) = run(simulator, runs, base_image, WRITES, **options)
    assert (result.score, result.success) == (1.0, True)
    assert result.preflight["cleanup"]["score"] == "ok"
    assert (runs / "run" / "nano" / "score.log").read_text().split() == ["answer.txt", "1"]
    assert containers_of(runs / "run") == []
    (nothing,) = run(simulator, runs, base_image, "rm -rf /workspace", **options, run_id="other")
    assert nothing.score == 0.0


def test_an_output_on_a_mount_of_each_trials_own_is_scored(
    simulator: Simulator, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)
    (tmp_path / "out" / "nano").mkdir(parents=True)
    options = {"score": SUBJECT, "mounts": [f"{tmp_path}/out/{{alias}}:/workspace"]}
    (result,) = run(simulator, tmp_path / "runs", base_image, WRITES, **options)
    assert result.score == 1.0
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "answer.txt").write_text("42")
    link = f"rm -rf /workspace/output; ln -s {secret} /workspace/output"
    for image in (None, base_image):
        (result,) = run(
            simulator, tmp_path / "runs", base_image, link, **options, run_id=f"r-{image is None}", score_image=image
        )
        assert result.preflight["score"]["reason"] == "the agent put a link in the place of its output folder"


def test_a_missing_score_image_is_found_before_the_run(
    simulator: Simulator, base_image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFLIGHT_GATE_BASE", base_image)
    with pytest.raises(ConfigError, match="The image no/such-image is missing, and nothing is pulled"):
        run(simulator, tmp_path / "runs", base_image, WRITES, score="echo 1", score_image="no/such-image")
    assert not any(key.name.startswith("agent-preflight:") for key in simulator.bill().keys.values())
    assert (
        subprocess.run([ENGINE, "image", "inspect", "no/such-image"], capture_output=True, check=False).returncode != 0
    )
