"""The simulator as a process."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from openrouter_sim.serve import serve

pytestmark = pytest.mark.wire


def test_it_prints_its_address_writes_its_ready_file_and_ends_on_sigterm(tmp_path: Path) -> None:
    ready, scenario = tmp_path / "ready.json", tmp_path / "scenario.toml"
    scenario.write_text("comments = 3\n")
    command = [sys.executable, "-m", "openrouter_sim", "--listen", "127.0.0.1:0", "--ready-file", str(ready)]
    with subprocess.Popen([*command, "--scenario", str(scenario)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            printed = [process.stdout.readline() for _ in range(3)]
            facts = json.loads(ready.read_text())
            assert printed == [
                f"export OPENROUTER_BASE_URL={facts['base_url']}\n",
                f"export OR_ADMIN_KEY={facts['admin_key']}\n",
                f"export OPENROUTER_API_KEY={facts['inference_key']}\n",
            ]
            assert facts["pid"] == process.pid
            assert ready.stat().st_mode & 0o777 == 0o600
            with urllib.request.urlopen(f"{facts['base_url']}/models") as answer:
                assert answer.status == 200
        finally:
            os.kill(process.pid, signal.SIGTERM)
        assert process.wait() == 0


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:", "1.2.3.4:x"])
def test_an_address_that_is_none_is_an_error(listen: str) -> None:
    with pytest.raises(ValueError):
        serve(listen, None, None)
