"""`python -m tests.bench.trials`: how much longer trials in containers take than bare `docker run`.

Rounds alternate, the first is discarded, and it prints medians with minimum and maximum, and ratios. It needs Docker, the program
`docker` for the bare runs, and an image with python3. It is a measurement, not a test.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from openrouter_sim import Simulator

MODEL = "openai/gpt-4.1-nano"
AGENT = ("python3", "-c", "import time; time.sleep(0.5)")
FIELD = 16
MUST = {"field": 2.0, "one": 3.5}
"""What the ratios must stay below on two cores."""


def bare(image: str, count: int) -> None:
    """Run the agents by `docker run`, all at once."""
    command = ["docker", "run", "--rm", image, *AGENT]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(count)]
    if any(process.wait() for process in running):
        raise RuntimeError("docker run failed")


def trials(image: str, count: int, simulator: Simulator, folder: Path, *more: str) -> None:
    """Run the agents as trials, all at once, by the whole command `agent-preflight run`."""
    models = [part for number in range(count) for part in ("--model", f"{MODEL}=a{number}")]
    command = [sys.executable, "-m", "agent_preflight", "run", "--image", image, *models, "--max-workers", str(count)]
    command += ["--budget", "0.01", "--runs-dir", str(folder), *more, "--", *AGENT]
    keys = {"OPENROUTER_BASE_URL": simulator.base_url, "OR_ADMIN_KEY": simulator.admin_key}
    environment = {**os.environ, **keys, "OPENROUTER_API_KEY": simulator.inference_key, "PREFLIGHT_GATE_BASE": image}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the run failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def seconds(work: Callable[[], None]) -> float:
    """Return how long some work takes."""
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


async def measure(image: str, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each kind of work, by round."""
    found: dict[str, list[float]] = {}
    async with Simulator() as simulator:
        with tempfile.TemporaryDirectory(prefix="ap-bench-") as name:
            folder = Path(name)
            works: dict[str, Callable[[], None]] = {
                "1 docker run": lambda: bare(image, 1),
                "1 trial": lambda: trials(image, 1, simulator, folder, "--skip-preflight"),
                "1 trial, with checks": lambda: trials(image, 1, simulator, folder),
                f"{FIELD} docker run": lambda: bare(image, FIELD),
                f"{FIELD} trials": lambda: trials(image, FIELD, simulator, folder, "--skip-preflight"),
            }
            for number in range(rounds + 1):
                for kind, work in works.items():
                    took_s = await asyncio.to_thread(seconds, work)
                    if number:
                        found.setdefault(kind, []).append(took_s)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.trials")
    parser.add_argument("--image", default="python:3.12-slim")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    found = asyncio.run(measure(given.image, given.rounds))
    for kind, times in found.items():
        base = found[f"{kind.split()[0]} docker run"]
        ratio = statistics.median(times) / statistics.median(base)
        print(f"{kind:22} {statistics.median(times):6.2f} s ({min(times):.2f}-{max(times):.2f})  {ratio:.2f}x")


if __name__ == "__main__":
    main()
