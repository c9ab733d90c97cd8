"""The part of an engine's message that is the cause: what stands around it says where in the engine it came up. Pure."""

from __future__ import annotations

import re

from agent_preflight.base.terminal import plain

_ADVICE = re.compile(r"\s*(?:(?:See|Run) '(?:docker|podman)\b[^']*'.*|Usage:.*)")
"""What the command line of Docker adds below a message."""
_AROUND = re.compile(
    r"^.*(?:Error response from daemon|failed to create (?:task for container|shim task)|OCI runtime (?:create|exec) failed"
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


def cause_of(message: str) -> str:
    """Return the cause that a message of the engine names, on one line and without escapes, with what to do where that is known.

    Source: Docker 20.10.24 with runc 1.1.5, asked by hand; the error type `unknown` is containerd's.
    """
    lines = [" ".join(plain(line).split()) for line in message.splitlines()]
    told = [line for line in lines if line and not _ADVICE.fullmatch(line)] or lines
    cause = " ".join(_UNKNOWN.sub("", _AROUND.sub("", line)).removeprefix("docker: ") for line in told)
    hint = next((hint for pattern, hint in _HINTS if pattern.search(cause)), "")
    return f"{cause.rstrip('.')}. {hint}" if hint else cause
