"""Which network modes and which gates are possible here, and why not the others. Pure."""

from __future__ import annotations

from agent_preflight.checks.line import Line, passed, warned
from agent_preflight.doctor.engine import EngineFacts, Handshake

PROCESS = "processes"
WITHOUT = "run agents with --sandbox process: their budgets hold all the same"


def network_lines(
    engine: EngineFacts | str, handshake: Handshake, portable: Handshake, cookies: bool
) -> tuple[Line, ...]:
    """Return the findings on sealed, bridged and no containers, and on both kinds of gate.

    Args:
        engine: The engine, or why there is none.
        handshake: How a gate's hand-over went.
        portable: How a portable gate's way to this machine went.
        cookies: The kernel tells network namespaces apart.
    """
    alone = passed(PROCESS, "always possible: agents see what you see, their calls are metered and bounded")
    obstacle = _obstacle(engine, handshake, cookies)
    found = engine if isinstance(engine, str) else None
    gates = (
        _gate_line("shared gate", obstacle, handshake),
        _gate_line("portable gate", found or portable.reason, portable),
    )
    works = next((gate for gate in gates if gate.ok), None)
    if works is None:
        reason = obstacle or portable.reason
        lines = [
            Line(ok=None, name=name, detail=f"not possible: {reason}", hint=WITHOUT) for name in ("sealed", "bridge")
        ]
        return (*lines, alone, *gates)
    return (
        passed("sealed", f"possible, with a {works.name}"),
        passed("bridge", "possible, with the same gate; and any Docker network by its name"),
        alone,
        *gates,
    )


def _gate_line(name: str, obstacle: str | None, handshake: Handshake) -> Line:
    if obstacle or handshake.seconds is None:
        return Line(ok=None, name=name, detail=f"not possible: {obstacle or handshake.reason}")
    return passed(name, f"possible: its listeners arrived in {handshake.seconds:.2f} s (at most 5 s)")


def _obstacle(engine: EngineFacts | str, handshake: Handshake, cookies: bool) -> str | None:
    """What is in the way of a gate that hands its listeners over."""
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
            (
                "Docker Desktop, remote engines",
                "share no unix socket with us; a portable gate's handshake decides",
            ),
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
