"""How a call of the engine can fail: by the status of its answer and by the connection, never by the text of a message.

"Gone" decides about money, so only a 404 of the engine proves it, as C11 (one step at a time) says. If the engine does
not answer, nothing is known about the container.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum

import aiodocker
import aiohttp
import msgspec

from preflight_proxy.core.errors import OperatingError
from preflight_proxy.core.terminal import plain

_MALFORMED = (ValueError, TypeError, LookupError, AttributeError, AssertionError)
"""What an answer that does not follow the API raises."""
CANNOT_CONNECT = 900
"""The status of `aiodocker` for no answer at all."""
MESSAGE_CHARS_MAX = 500

_AROUND = re.compile(
    r"^.*(?:failed to create (?:task for container|shim task)|OCI runtime (?:create|exec) failed"
    r"|runc (?:create|run) failed|starting container process caused|unable to start container process"
    r"|error during container init|external connectivity on endpoint \S+ \([0-9a-f]+\)): "
)
_UNKNOWN = re.compile(r": unknown(?=:|\.|$)")
_HINTS = (
    (
        re.compile(r'exec: ".*": (?:executable file not found|(?:stat .*: )?no such file)'),
        "Correct the agent's command, or install it in the image",
    ),
    (re.compile(r'exec: ".*": permission denied'), "It must be a program that may be executed (chmod +x in the image)"),
    (re.compile("exec format error"), "The image is for another platform"),
)


class Failure(Enum):
    """Why a call failed."""

    GONE = "gone"
    """404: there is no such container, image, network or volume, or no such path in the container."""
    CONFLICT = "conflict"
    """409: the name is taken, the container does not run, or somebody else is removing it."""
    REFUSED = "refused"
    """Any other 4xx: the engine refuses the request."""
    FAILED = "failed"
    """5xx: the engine tried and failed; a full disk is one reason."""
    UNREACHABLE = "unreachable"
    """Nothing listens at the engine's address, this user may not open it, or what names it cannot be used or read. Nothing is
    known about any container."""
    LOST = "lost"
    """The connection broke before the answer; whether the engine did it is not known."""
    TIMEOUT = "timeout"
    """No answer within the call's time limit; whether the engine did it is not known."""
    NOT_DOCKER = "not_docker"
    """What answered is no Docker engine, or one that is too old."""
    NO_ENGINE = "no_engine"
    """Nothing names an engine, and none of the usual sockets is there."""


class DockerError(OperatingError):
    """A call of the engine failed.

    Attributes:
        failure: What it means.
    """

    def __init__(self, message: str, failure: Failure = Failure.FAILED) -> None:
        super().__init__(message)
        self.failure = failure


UNKNOWN = frozenset({Failure.LOST, Failure.TIMEOUT, Failure.NOT_DOCKER})
"""After these the engine may have done it."""
ANSWERED = frozenset({Failure.GONE, Failure.CONFLICT, Failure.REFUSED})
"""After these it has not."""


def of_status(status: int) -> Failure:
    """Return what the status of an engine's error means."""
    named = {404: Failure.GONE, 409: Failure.CONFLICT}
    return named.get(status, Failure.REFUSED if status < 500 else Failure.FAILED)


@asynccontextmanager
async def explained(place: str, doing: str, limit_s: float | None) -> AsyncIterator[None]:
    """Give one call its time limit, and turn whatever goes wrong with it into a DockerError."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as exc:
        within = "in time" if limit_s is None else f"within {limit_s:g} s"
        text = f"{doing}: Docker at {place} did not answer {within}; it may be overloaded, or hang."
        raise DockerError(text, Failure.TIMEOUT) from exc
    except aiodocker.DockerError as exc:
        if exc.status == CANNOT_CONNECT:
            raise _unconnected(place, doing, exc.__context__) from exc
        reason = cause_of(str(exc.message))[:MESSAGE_CHARS_MAX]
        raise DockerError(f"{doing}: {reason}", of_status(exc.status)) from exc
    except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, OSError) as exc:
        raise _unconnected(place, doing, exc) from exc
    except (aiohttp.ClientError, msgspec.MsgspecError, *_MALFORMED) as exc:
        text = f"{doing}: what answers at {place} is no Docker engine ({type(exc).__name__})."
        raise DockerError(text, Failure.NOT_DOCKER) from exc


def _unconnected(place: str, doing: str, cause: BaseException | None) -> DockerError:
    if not isinstance(cause, aiohttp.ClientConnectorError):
        return DockerError(f"{doing}: Docker at {place} closed the connection; it may be restarting.", Failure.LOST)
    number = 0 if isinstance(cause, aiohttp.ClientSSLError) else cause.errno or 0  # OpenSSL has numbers of its own
    if number in (errno.EACCES, errno.EPERM):
        text = f"{doing}: you may not use Docker at {place}: add yourself to the group docker and log in again, or use sudo."
        return DockerError(text, Failure.UNREACHABLE)
    reason = os.strerror(number) if number > 0 else cause.os_error.strerror or str(cause.os_error)
    text = f"{doing}: no Docker engine answers at {place}: {reason}. Start Docker, or set DOCKER_HOST."
    return DockerError(text, Failure.UNREACHABLE)


def cause_of(message: str) -> str:
    """Return the cause that a message of the engine names, on one line and without escapes, with what to do where that is known.

    Source: Docker 20.10.24 with runc 1.1.5, tried by hand; the error type `unknown` is containerd's.
    """
    lines = filter(None, (" ".join(plain(line).split()) for line in message.splitlines()))
    cause = " ".join(_UNKNOWN.sub("", _AROUND.sub("", line)) for line in lines)
    hint = next((hint for pattern, hint in _HINTS if pattern.search(cause)), "")
    return f"{cause.rstrip('.')}. {hint}" if hint else cause
