"""The engine that container tests run on, as trials do: docker, or what `PREFLIGHT_ENGINE` names."""

from __future__ import annotations

import subprocess

from agent_preflight.config import engine_command
from agent_preflight.docker.engines import Kind, identify

ENGINE = engine_command()
NOT_PORTABLE = "gates on Podman are not portable"


def on_podman() -> bool:
    """Tell whose engine it is."""
    return identify(ENGINE).kind is Kind.PODMAN


def output(*args: str) -> str:
    """Return what the engine's command prints, stripped; it succeeds."""
    return subprocess.run([ENGINE, *args], capture_output=True, text=True, check=True).stdout.strip()


def layers() -> str:
    """The names of what Podman stores without a container to it."""
    return (
        output("ps", "-a", "--external", "--filter", "status=unknown", "--format", "{{.Names}}") if on_podman() else ""
    )


def left_below() -> list[str]:
    """The containers that the runtime below Podman has and Podman knows nothing of; Docker has none such."""
    if not on_podman():
        return []
    before, known, after = _in_runtime(), set(output("ps", "-aq", "--no-trunc").split()), _in_runtime()
    return sorted((before & after) - known)


def _in_runtime() -> set[str]:
    command = [identify(ENGINE).runtime, "list", "-q"]
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
