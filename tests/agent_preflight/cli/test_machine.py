"""`agent-preflight sweep`, `simulate` and `doctor`."""

import json
import os
import socket
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from agent_preflight.cli import app
from tests.support.cli_commands import invoke
from tests.support.crashed_run import BUSY, crash
from tests.support.served_command import served
from tests.support.trial_field import Field


def sweep(runs_dir: Path, *arguments: str, admin_key: str = "", **more: Any) -> Result:
    environment = {"OR_ADMIN_KEY": admin_key, "OPENROUTER_ADMIN_KEY": ""}
    return CliRunner().invoke(app, ["sweep", *arguments, "--runs-dir", str(runs_dir)], env=environment, **more)


def old_run(runs_dir: Path, name: str, days: float) -> Path:
    run_dir = runs_dir / name
    run_dir.mkdir(parents=True)
    (run_dir / "lock").touch()
    at_s = (run_dir / "lock").stat().st_mtime - days * 86_400
    for path in (run_dir / "lock", run_dir):
        os.utime(path, (at_s, at_s))
    return run_dir


@pytest.mark.wire
@pytest.mark.usefixtures("docker_host")
def test_where_nothing_is_left_it_says_so(tmp_path: Path) -> None:
    told = sweep(tmp_path)
    assert (told.exit_code, told.output) == (0, "Nothing to clean up.\n")


@pytest.mark.wire
@pytest.mark.usefixtures("docker_host")
def test_first_a_rehearsal_then_the_sweep(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    rehearsed = sweep(trials.runs_dir, "--dry-run", admin_key=trials.simulator.admin_key)
    assert (rehearsed.exit_code, rehearsed.output.count("would remove: ")) == (0, 3)
    swept = sweep(trials.runs_dir, admin_key=trials.simulator.admin_key)
    assert (swept.exit_code, swept.output.count("removed: ")) == (0, 3)
    assert "summary of" in swept.output


@pytest.mark.wire
@pytest.mark.usefixtures("docker_host")
def test_what_is_left_is_exit_code_5(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    told = sweep(trials.runs_dir)
    assert told.exit_code == 5
    assert "LEFT: sub-key agent-preflight:crashed:a:" in told.output
    assert "OR_ADMIN_KEY" in told.output
    assert sweep(trials.runs_dir, admin_key=trials.simulator.admin_key).exit_code == 0


@pytest.mark.wire
@pytest.mark.usefixtures("docker_host")
def test_a_sweep_for_machines_is_one_object(trials: Field) -> None:
    crash(trials, {"a": BUSY})
    told = json.loads(sweep(trials.runs_dir, "--json", admin_key=trials.simulator.admin_key).stdout)
    assert [item["kind"] for item in told["removed"]] == ["proxy", "sub-key", "sockets"]
    assert (told["dry_run"], told["left"], told["removed_runs"]) == (False, [], [])


@pytest.mark.wire
@pytest.mark.usefixtures("docker_host")
def test_old_folders_go_after_a_question(tmp_path: Path) -> None:
    old, young = old_run(tmp_path, "old", 31), old_run(tmp_path, "young", 29)
    asked = ("--runs-older-than", "30")
    assert "old  31 days old" in sweep(tmp_path, *asked, "--dry-run").output
    assert sweep(tmp_path, *asked, input="n\n").exit_code == 1
    assert old.exists()
    assert sweep(tmp_path, *asked, input="y\n").exit_code == 0
    assert (old.exists(), young.exists()) == (False, True)


@pytest.mark.wire
@pytest.mark.usefixtures("docker_host")
def test_with_yes_nobody_is_asked(tmp_path: Path) -> None:
    old = old_run(tmp_path, "old", 2)
    told = json.loads(sweep(tmp_path, "--runs-older-than", "1", "--yes", "--json").stdout)
    assert told["removed_runs"] == [str(old)]
    assert not old.exists()


@pytest.mark.wire
@pytest.mark.usefixtures("docker_host")
def test_a_folder_that_must_be_kept_is_listed_with_the_reason(trials: Field) -> None:
    run_dir = crash(trials, {"a": BUSY})
    told = sweep(trials.runs_dir, "--runs-older-than", "0", "--yes")
    assert "kept: something of it may be left" in told.output
    assert run_dir.exists()
    assert (
        sweep(trials.runs_dir, "--runs-older-than", "0", "--yes", admin_key=trials.simulator.admin_key).exit_code == 0
    )
    assert not run_dir.exists()
    trials.may_differ = True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "bad.toml"), "Invalid"),
        (("--scenario", "none.toml"), "none.toml: No such file"),
        (("--listen", "192.0.2.1:80"), "192.0.2.1"),
    ],
)
def test_what_it_cannot_start_with_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text("tokens_per_s = ")
    told = invoke("simulate", *arguments)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith("The simulator did not start. ")
    assert told.stderr.count("\n") == 1
    assert words in told.stderr
    assert "Errno" not in told.stderr


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:99999", "127.0.0.1:", ":-1"])
def test_an_address_that_is_none_is_a_bad_option(listen: str) -> None:
    told = invoke("simulate", "--listen", listen)
    assert (told.exit_code, told.stdout) == (2, "")
    assert "HOST:PORT" in told.stderr


@pytest.mark.wire
def test_it_serves_until_sigterm_and_says_where_and_with_which_keys(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    with served(ready_file, "simulate", "--listen", "127.0.0.1:0") as simulator:
        ready = simulator.ready
        assert ready.keys() == {"base_url", "admin_key", "inference_key", "pid"}
        assert ready["pid"] == simulator.pid
        assert stat.S_IMODE(ready_file.stat().st_mode) == 0o600
        with httpx.Client(base_url=ready["base_url"], trust_env=False) as client:
            for path, key in (("keys", "admin_key"), ("key", "inference_key")):
                assert client.get(path, headers={"Authorization": f"Bearer {ready[key]}"}).status_code == 200
    assert simulator.code == 0
    assert all(ready[name] in simulator.stdout for name in ("base_url", "admin_key", "inference_key"))


def test_an_address_that_is_taken_asks_for_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = invoke("simulate", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "address already in use" in told.stderr
    assert "--listen" in told.stderr


@pytest.mark.wire
def test_it_explains_in_sections() -> None:
    told = CliRunner().invoke(app, ["doctor", "--offline", "--no-containers"])
    assert told.exit_code == 0, told.output
    assert "\nNetworks\n" in told.output
    assert "[v] processes" in told.output


@pytest.mark.wire
def test_an_examination_for_machines_is_one_object() -> None:
    told = CliRunner().invoke(app, ["doctor", "--offline", "--no-containers", "--json"])
    assert json.loads(told.stdout)["ok"] is True


@pytest.mark.wire
def test_a_clock_that_cannot_be_compared_is_exit_code_1() -> None:
    told = CliRunner().invoke(
        app, ["doctor", "--no-containers"], env={"OPENROUTER_BASE_URL": "http://127.0.0.1:9/api/v1"}
    )
    assert told.exit_code == 1
    assert "[x] Clock" in told.output


@pytest.mark.wire
@pytest.mark.docker
def test_where_an_engine_answers_a_gate_is_tried() -> None:
    told = CliRunner().invoke(app, ["doctor", "--offline"])
    assert "trying both kinds of gate" in told.output
    assert "[v] shared gate  possible: its listeners arrived" in told.output
    assert "[v] portable gate  possible: its listeners arrived" in told.output
