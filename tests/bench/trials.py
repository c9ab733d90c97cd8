"""Experiments on whole runs: how much longer trials in containers take than bare `docker run`.

They need Docker, the program `docker` for the bare runs, and an image with python3. They run on all cores.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from openrouter_sim import Simulator
from tests.bench import machine
from tests.bench.rounds import Bench, Experiment, Sample
from tests.bench.subjects import OURS, Kind

MODEL = "openai/gpt-4.1-nano"
AGENT = ("python3", "-c", "import time; time.sleep(0.5)")
FIELD = 16


def bare(image: str, count: int) -> None:
    """Run the agents by `docker run`, all at once."""
    command = ["docker", "run", "--rm", image, *AGENT]
    running = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(count)]
    if any(process.wait() for process in running):
        raise RuntimeError("docker run failed")


def trials(image: str, count: int, simulator: Simulator, folder: Path) -> None:
    """Run the agents as trials, all at once, by the whole command `agent-preflight run`; without the checks of a key."""
    models = [part for number in range(count) for part in ("--model", f"{MODEL}=a{number}")]
    command = [sys.executable, "-m", "agent_preflight", "run", "--image", image, *models, "--max-workers", str(count)]
    command += ["--budget", "0.01", "--runs-dir", str(folder), "--skip-preflight", "--", *AGENT]
    keys = {"OPENROUTER_BASE_URL": simulator.base_url, "OR_ADMIN_KEY": simulator.admin_key}
    environment = {**os.environ, **keys, "OPENROUTER_API_KEY": simulator.inference_key, "PREFLIGHT_GATE_BASE": image}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the run failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")


def seconds(work: Callable[[], None]) -> float:
    """Return how long some work takes on all cores."""
    with machine.all_cores():
        began_s = time.perf_counter()
        work()
        return time.perf_counter() - began_s


async def compared(count: int, bench: Bench, _kind: Kind) -> Sample:
    """The same agents by `docker run` and as trials; nothing where no image was named."""
    if not bench.image:
        return {}
    async with Simulator() as simulator:
        bare_s = await asyncio.to_thread(seconds, partial(bare, bench.image, count))
        work = partial(trials, bench.image, count, simulator, bench.new_folder())
        trials_s = await asyncio.to_thread(seconds, work)
    return {f"docker_{count}": bare_s, f"trials_{count}": trials_s}


EXPERIMENTS = tuple(
    Experiment((f"docker_{count}", f"trials_{count}"), (OURS.name,), partial(compared, count), rounds_max=5)
    for count in (1, FIELD)
)
