"""The simulator as a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

from openrouter_sim.scenario_file import load_scenario
from openrouter_sim.simulator import Simulator


def serve(listen: str, scenario_file: Path | None, ready_file: Path | None) -> None:
    """Serve on `HOST:PORT` (port 0: any) until SIGTERM or SIGINT; print `export` lines for a shell.

    The lines set OPENROUTER_BASE_URL, OR_ADMIN_KEY and OPENROUTER_API_KEY, once connections are accepted.

    Args:
        listen: Address; a port alone means 127.0.0.1.
        scenario_file: TOML, see `load_scenario`.
        ready_file: Written (mode 0600, by rename) once connections are accepted: JSON `base_url, admin_key,
            inference_key, pid`.

    Raises:
        ValueError: the address or the scenario is invalid.
        OSError: a file cannot be read or written, or the address is taken.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdigit():
        raise ValueError(f"not HOST:PORT: {listen}")
    scenario = None if scenario_file is None else load_scenario(scenario_file)
    asyncio.run(_serve(Simulator(scenario), host or "127.0.0.1", int(port), ready_file))


async def _serve(simulator: Simulator, host: str, port: int, ready_file: Path | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    await simulator.start(host, port)
    try:
        _announce(simulator, ready_file)
        await stop.wait()
    finally:
        await simulator.stop()


def _announce(simulator: Simulator, ready_file: Path | None) -> None:
    facts = {
        "base_url": simulator.base_url,
        "admin_key": simulator.admin_key,
        "inference_key": simulator.inference_key,
        "pid": os.getpid(),
    }
    if ready_file is not None:
        _write_private(ready_file, json.dumps(facts))
    variables = {
        "OPENROUTER_BASE_URL": simulator.base_url,
        "OR_ADMIN_KEY": simulator.admin_key,
        "OPENROUTER_API_KEY": simulator.inference_key,
    }
    # One write, so that a reader of the file it goes to finds all lines or none.
    print("\n".join(f"export {name}={value}" for name, value in variables.items()), flush=True)  # noqa: T201


def _write_private(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.touch(mode=0o600)
    partial.write_text(text, "utf-8")
    partial.replace(path)
