"""The runner that chaos kills: `run_multi` in a process, with its arguments as JSON on standard input.

The times of M13 (unknown cost) are short, so that a round does not wait a minute for a lost call. The product has no option for
this: the function that starts the proxy is wrapped here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent_preflight.runner import run_multi
from agent_preflight.sidecar import keeper
from agent_preflight.sidecar.keeper import own_process

REPO = Path(__file__).parents[2]
CLOCKS = {"key_usage_lag_s": 1.0, "generation_s_max": 2.0, "call_s_max": 4.0, "grace_s": 2.0}


async def fast_process(module: str, *arguments: str, config: bytes = b"", **options: Any) -> Any:
    """Start one of our modules with short times."""
    settings = json.dumps({**json.loads(config), **CLOCKS}).encode()
    return await own_process(module, *arguments, config=settings, **options)


def start(log: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    """Start such a runner with these environment variables. It begins when its input, the arguments, has ended."""
    with log.open("w") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.victim"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            text=True,
            cwd=REPO,
            env={**os.environ, **environment},
            start_new_session=True,
        )


if __name__ == "__main__":
    keeper.own_process = fast_process
    print(json.dumps([result.error for result in run_multi(log_fn=lambda line: None, **json.load(sys.stdin))]))
