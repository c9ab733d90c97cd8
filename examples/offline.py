"""The OpenRouter that an example talks to: the one that OPENROUTER_BASE_URL names, else an offline one of its own."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

START_S_MAX = 20
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class OpenRouter:
    """Where it is, and the keys to it."""

    base_url: str
    admin_key: str
    key: str
    offline: bool


@contextmanager
def openrouter(scenario: Path) -> Iterator[OpenRouter]:
    """What to connect to, while the context lasts; `scenario` says what the offline models answer."""
    if base_url := os.environ.get("OPENROUTER_BASE_URL"):
        offline = urlsplit(base_url).hostname in LOOPBACK
        what = "on this machine, so a simulator: no money is spent" if offline else "elsewhere: real models, real money"
        print(f"OPENROUTER_BASE_URL names an OpenRouter {what}.", flush=True)
        yield OpenRouter(base_url, os.environ["OR_ADMIN_KEY"], os.environ["OPENROUTER_API_KEY"], offline)
        return
    with tempfile.TemporaryDirectory() as folder:
        ready = Path(folder) / "ready.json"
        listen = ["--listen", "127.0.0.1:0", "--scenario", str(scenario), "--ready-file", str(ready)]
        with subprocess.Popen(
            [sys.executable, "-m", "agent_preflight", "simulate", *listen], stdout=subprocess.DEVNULL
        ) as simulator:
            try:
                told = until_ready(ready, simulator)
                yield OpenRouter(told["base_url"], told["admin_key"], told["inference_key"], offline=True)
            finally:
                simulator.terminate()


def until_ready(ready: Path, process: subprocess.Popen[bytes]) -> dict[str, str]:
    """What a process says of itself once it serves."""
    until = time.monotonic() + START_S_MAX
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit("what was started did not become ready")
        time.sleep(0.05)
    return json.loads(ready.read_text())
