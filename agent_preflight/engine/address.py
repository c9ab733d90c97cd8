"""Finds the engine, and chooses the version of its API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiodocker
import msgspec

from agent_preflight.base.config import variable
from agent_preflight.engine.failure import MESSAGE_CHARS_MAX, DockerError, Failure

API_TESTED = (1, 41)
"""Version of the API that our container tests pass on, that of Docker 20.10; used if the engine still has it."""
SYSTEM_SOCKET = Path("/var/run/docker.sock")
_SSH = "Or forward its socket, `ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST`, and name that in DOCKER_HOST."
_NO_ENGINE = (
    "no Docker engine was found: DOCKER_HOST is not set, no context is chosen, and there is no socket at {}. "
    "Start Docker, or run the agents as processes (--sandbox process)."
)


class Version(msgspec.Struct, rename="pascal", frozen=True):
    """An engine's answer to `GET /version`: its version, the newest and oldest API that it has, and the platform of its images."""

    version: str
    api_version: str
    os: str
    arch: str
    min_api_version: str = msgspec.field(default="1.12", name="MinAPIVersion")
    components: tuple[dict[str, Any], ...] = ()


def connect(url: str | None) -> aiodocker.Docker:
    """Return a client of the engine at this URL, else of DOCKER_HOST, else of the current context, else at a usual socket.

    `aiodocker` reads the context (in ~/.docker) and the TLS variables. The order is that of Docker's own command line.

    Raises:
        DockerError: No engine is named, or what names it cannot be used.
    """
    host = url or variable("DOCKER_HOST") or None
    try:
        if variable("DOCKER_TLS_VERIFY") not in (None, "", "1"):
            raise ValueError("DOCKER_TLS_VERIFY must be 1 or unset")
        if host is None and (context := variable("DOCKER_CONTEXT") or _current_context()) != "default":
            return aiodocker.Docker(context=context)
        return aiodocker.Docker(host or _usual_socket())
    except (aiodocker.DockerError, msgspec.MsgspecError, ValueError, TypeError, AttributeError, OSError) as exc:
        what = f"DOCKER_HOST={host[:200]!r}" if host else "the Docker context that is chosen"
        hint = _SSH if (host or "").startswith("ssh:") else "Set DOCKER_HOST, such as unix:///var/run/docker.sock."
        reason = " ".join(str(getattr(exc, "message", exc)).split())[:MESSAGE_CHARS_MAX]
        text = f"{what} cannot be used: {reason.rstrip('.')}. {hint}"
        raise DockerError(text, Failure.UNREACHABLE) from exc


def _current_context() -> str:
    path = Path.home() / ".docker" / "config.json"
    return (path.exists() and msgspec.json.decode(path.read_bytes()).get("currentContext")) or "default"


def _usual_socket() -> str:
    own = Path.home() / ".docker"
    sockets = [SYSTEM_SOCKET, own / "run" / "docker.sock", own / "desktop" / "docker.sock"]
    if runtime := variable("XDG_RUNTIME_DIR"):
        sockets.append(Path(runtime, "docker.sock"))  # an engine without root
    for path in sockets:
        if path.is_socket():
            return f"unix://{path}"
    raise DockerError(_NO_ENGINE.format(", ".join(map(str, sockets))), Failure.NO_ENGINE)


def negotiate(url: str, version: Version) -> str:
    """Return the version of the API to use: the one that was tested, or the oldest that the engine has if that is newer.

    Raises:
        DockerError: It is no Docker, or too old.
    """
    newest, oldest = (_numbers(text) for text in (version.api_version, version.min_api_version))
    if any("podman" in str(component.get("Name")).lower() for component in version.components):
        text = f"{url} leads to Podman {version.version}, which is not supported: use Docker."
        raise DockerError(text, Failure.NOT_DOCKER)
    if newest < API_TESTED:
        text = f"Docker {version.version} at {url} is too old: version 20.10 or newer is needed."
        raise DockerError(text, Failure.NOT_DOCKER)
    return "v{}.{}".format(*max(API_TESTED, oldest))


def _numbers(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else (0, 0)
