"""What the engine says about one container: the truth about a trial's end, where every other sign is a hint (C13)."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from agent_preflight.docker.cli import CALL_S_MAX, Docker
from agent_preflight.docker.failure import DockerError, Failure, explain
from agent_preflight.sandbox import Exit

_NEVER = "0001-01-01T00:00:00Z"
_ENDED = frozenset({"exited", "dead", "stopped"})
"""`stopped` is Podman's word for one that has ended and is not tidied up yet."""


class _Wire(msgspec.Struct, rename="pascal"):
    status: str
    exit_code: int
    started_at: str
    error: str = ""
    oom_killed: bool = msgspec.field(default=False, name="OOMKilled")


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container at one moment.

    Attributes:
        started: It ran at some time.
        ended: It ran and runs no more.
        exit: How it ended; means nothing before.
        error: Why it could not be started, in the engine's words.
    """

    started: bool
    ended: bool
    exit: Exit
    error: str


def parse_state(text: str) -> ContainerState:
    """Read what `inspect -f '{{json .State}}'` prints.

    Raises:
        DockerError: It is something else.
    """
    try:
        wire = msgspec.json.decode(text, type=_Wire)
    except msgspec.MsgspecError as exc:
        raise DockerError(f"docker inspect printed what is no container state: {text[:200]!r}") from exc
    started = wire.started_at != _NEVER
    return ContainerState(
        started=started,
        ended=started and wire.status in _ENDED,
        exit=Exit(code=wire.exit_code, out_of_memory=wire.oom_killed),
        error=wire.error,
    )


async def look(docker: Docker, container: str, *, limit_s: float = CALL_S_MAX) -> ContainerState | None:
    """Return a container's state; None only if the engine says that there is none.

    Raises:
        DockerError: The engine did not answer the question.
    """
    done = await docker.run("container", "inspect", "-f", "{{json .State}}", container, limit_s=limit_s)
    match done.failure:
        case None:
            return parse_state(done.stdout)
        case Failure.GONE:
            return None
        case failure:
            raise DockerError(explain("looking at a container", failure, done.stderr), failure)
