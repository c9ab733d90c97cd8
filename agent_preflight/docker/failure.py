"""What the engine's command line means when it fails: a word instead of a sentence, decided from the text alone.

"Gone" is a claim about money and about other people's machines, so only the engine's own "No such" proves it (C11): an engine
that does not answer has said nothing about the container.
"""

from __future__ import annotations

from enum import Enum

from preflight_proxy.errors import OperatingError


class Failure(Enum):
    """Why a call of the docker command failed."""

    GONE = "gone"
    """There is no such container, image or network."""
    UNREACHABLE = "unreachable"
    """No engine answers; nothing is known about any container."""
    TIMEOUT = "timeout"
    """The command itself did not end in its time."""
    NO_COMMAND = "no_command"
    """The docker command is not installed."""
    NOT_RUNNING = "not_running"
    """The container is there and does not run."""
    NAME_TAKEN = "name_taken"
    BEING_REMOVED = "being_removed"
    """Somebody else's removal is on its way; ask again."""
    READ_ONLY = "read_only"
    """The place to write to is mounted read-only."""
    NOT_A_DIRECTORY = "not_a_directory"
    """The destination of a copy is missing or no directory."""
    CANNOT_EXECUTE = "cannot_execute"
    """The image has no such program, or it cannot be executed."""
    OTHER = "other"


_SIGNS = (
    ("cannot connect to the docker daemon", Failure.UNREACHABLE),
    ("error during connect", Failure.UNREACHABLE),
    ("permission denied while trying to connect", Failure.UNREACHABLE),
    ("failed to connect to the docker api", Failure.UNREACHABLE),
    ("is the docker daemon running", Failure.UNREACHABLE),
    ("connection refused", Failure.UNREACHABLE),
    ("is not running", Failure.NOT_RUNNING),
    ("can only kill running containers", Failure.NOT_RUNNING),
    ("is already in use by container", Failure.NAME_TAKEN),
    ("is already in progress", Failure.BEING_REMOVED),
    ("is marked read-only", Failure.READ_ONLY),
    ("must be a directory", Failure.NOT_A_DIRECTORY),
    ("executable file not found", Failure.CANNOT_EXECUTE),
    ("no such file or directory: unknown", Failure.CANNOT_EXECUTE),
    ("permission denied: unknown", Failure.CANNOT_EXECUTE),
)
"""Lower-cased parts of the engine's sentences, in order of precedence.

Source: captured from engine 20.10.24 with CLI 28.2.2, and from Podman 4.3.1 (2026-11-25); `failed to connect` is the wording
of CLI 29.
"""

_GONE = (
    *("no such container", "no such object", "no such image", "no such network", "no such volume"),
    *("image not known", "network not found"),
)


def classify(stderr: str) -> Failure:
    """Return what a failed command's error text means; `OTHER` for what is not known."""
    text = stderr.lower()
    for sign, failure in _SIGNS:
        if sign in text:
            return failure
    return Failure.GONE if any(sign in text for sign in _GONE) else Failure.OTHER


class DockerError(OperatingError):
    """The docker command failed.

    Attributes:
        failure: What it means.
    """

    def __init__(self, message: str, failure: Failure = Failure.OTHER) -> None:
        super().__init__(message)
        self.failure = failure


def explain(doing: str, failure: Failure, stderr: str) -> str:
    """Return a sentence for a person: what was tried, what it means, what to do."""
    match failure:
        case Failure.NO_COMMAND:
            return f"{doing}: the docker command is not installed. Install Docker, or run the agents as processes."
        case Failure.UNREACHABLE:
            return (
                f"{doing}: no Docker engine answers. Start it, or check DOCKER_HOST and your permissions; "
                "`docker version` must work."
            )
        case Failure.TIMEOUT:
            return (
                f"{doing}: Docker did not answer in time. Its engine may be overloaded or hang; `docker ps` must work."
            )
    return f"{doing}: {_last_line(stderr) or 'Docker gave no reason'}"


def _last_line(stderr: str) -> str:
    """The engine's own sentence; its last line is often just a repetition by the command line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    told = [line for line in lines if "error response from daemon" in line.lower()]
    return (told or lines or [""])[-1][:500]
