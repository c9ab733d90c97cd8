"""Which network modes are possible here, and why not the others. Pure."""

from __future__ import annotations

from agent_preflight.checks.line import Line, passed, warned
from agent_preflight.doctor.engine import Engine, Handshake

PROCESS = "processes"
WITHOUT = "run agents with --sandbox process: their budgets hold all the same"


def network_lines(engine: Engine | str, handshake: Handshake, cookies: bool) -> tuple[Line, ...]:
    """Return the findings on sealed, bridged and no containers.

    Args:
        engine: The engine, or why there is none.
        handshake: How a gate's hand-over went.
        cookies: The kernel tells network namespaces apart.
    """
    reason = _obstacle(engine, handshake, cookies)
    alone = passed(PROCESS, "always possible: agents see what you see, their calls are metered and bounded")
    if reason is not None:
        lines = [
            Line(ok=None, name=name, detail=f"not possible: {reason}", hint=WITHOUT) for name in ("sealed", "bridge")
        ]
        return (*lines, alone)
    assert handshake.seconds is not None
    return (
        passed("sealed", f"possible: a gate handed its listeners over in {handshake.seconds:.2f} s (at most 5 s)"),
        passed("bridge", "possible, with the same gate; and any Docker network by its name"),
        alone,
    )


def _obstacle(engine: Engine | str, handshake: Handshake, cookies: bool) -> str | None:
    if isinstance(engine, str):
        return engine
    if not cookies:
        return "the kernel cannot tell network namespaces apart, so the proxy refuses what a gate hands over"
    return handshake.reason if handshake.seconds is None else None


def untried_lines() -> tuple[Line, ...]:
    """Return what nobody has tried, so that no claim is made for it."""
    return tuple(
        warned(name, text)
        for name, text in (
            ("userns-remap, rootless", "limits need a delegated control group v2; the gate's handshake decides"),
            ("SELinux", "may deny the mounted socket; mounts of yours are never relabelled, labels never switched off"),
            ("Docker Desktop, remote engines", "share no unix socket with this machine; the gate's handshake decides"),
            ("podman", "its command is close to docker's; our container tests have not passed on it"),
            (
                "a second dockerd",
                "must not run in the network namespace of a live one: it removed the other's bridge (C18)",
            ),
        )
    )


def client_lines() -> tuple[Line, ...]:
    """Return which clients find the proxy at https://openrouter.ai inside a container, and which do not (C10)."""
    tested = (
        "tested: curl, Python (urllib, requests, httpx), Node; the same variables are read by pip, git, boto, Deno, Go"
    )
    own_roots = "some rustls builds, Java's key store: these need the base URL, in OPENROUTER_BASE_URL"
    image = "are replaced by ours; to keep yours, set them in `env` to a file that has both"
    return (
        passed("that read the bundle", tested),
        warned("with roots of their own", own_roots),
        warned("whose image sets variables", f"these {image}"),
    )
