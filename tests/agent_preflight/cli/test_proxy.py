"""`agent-preflight proxy`: its options; what it serves is tested where it lives."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from agent_preflight.cli import app
from openrouter_sim import Simulator

READY_S_MAX = 30.0


@pytest.mark.parametrize("options", [[], ["--budget", "1", "--account", "a=1"], ["--account", "a"]])
def test_what_contradicts_itself_is_a_bad_option(options: list[str], tmp_path: Path) -> None:
    told = CliRunner().invoke(app, ["proxy", "--data", str(tmp_path / "d"), *options])
    assert told.exit_code == 2
    assert not (tmp_path / "d").exists()


def test_without_a_key_it_names_the_variable(tmp_path: Path) -> None:
    options = ["proxy", "--data", str(tmp_path), "--budget", "1"]
    told = CliRunner().invoke(app, options, env={"OPENROUTER_API_KEY": None})
    assert told.exit_code == 1
    assert "OPENROUTER_API_KEY" in told.stderr


@contextmanager
def served(ready_file: Path, env: dict[str, str], *options: str) -> Iterator[dict[str, Any]]:
    """Run a command that serves, as a process, until the context ends; gives its ready file."""
    command = [sys.executable, "-m", "agent_preflight", *options, "--ready-file", str(ready_file)]
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + READY_S_MAX
    while not ready_file.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    try:
        yield json.loads(ready_file.read_text())
    finally:
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.wire
def test_the_ready_file_says_all_that_a_client_needs(simulator: Simulator, tmp_path: Path) -> None:
    env = {"OPENROUTER_API_KEY": simulator.inference_key, "OPENROUTER_BASE_URL": simulator.base_url}
    options = ("--listen", "127.0.0.1:0", "--account", "a=0.50", "--account", "b=0.25", "--data", str(tmp_path / "d"))
    with served(tmp_path / "ready.json", env, "proxy", *options) as ready:
        assert {"base_url", "api_key", "pid", "control", "accounts"} <= ready.keys()
        assert ready["accounts"]["b"]["limit_usd"] == "0.25"
        headers = {"Authorization": f"Bearer {ready['accounts']['b']['api_key']}"}
        body = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}
        with httpx.Client(headers=headers, trust_env=False) as client:
            answer = client.post(f"{ready['base_url']}/chat/completions", json=body)
        assert answer.status_code == 200
        assert answer.headers["X-Budget-Limit"] == "0.25"
    told = CliRunner().invoke(app, ["costs", "--json", "--data", str(tmp_path / "d")])
    assert json.loads(told.stdout.splitlines()[0])["account"] == "b"
