"""Which networks are possible, and why not the others."""

import pytest

from agent_preflight.doctor.engine import EngineFacts, Handshake
from agent_preflight.doctor.networks import client_lines, network_lines, untried_lines
from tests.support.cases import each

ENGINE = EngineFacts("27.1", "Debian", "2")
WORKS = Handshake(0.3)
NOT_TRIED = Handshake(None, "not tried")


def test_where_the_gate_works_everything_is_possible() -> None:
    lines = network_lines(ENGINE, WORKS, WORKS, cookies=True)
    assert [(line.name, line.ok) for line in lines] == [
        *(("sealed", True), ("bridge", True), ("processes", True)),
        *(("shared gate", True), ("portable gate", True)),
    ]
    assert "0.30 s" in lines[3].detail
    assert "shared" in lines[0].detail


@pytest.mark.parametrize(
    ("handshake", "cookies", "reason"),
    [(Handshake(None, "shares no socket"), True, "shares no socket"), (WORKS, False, "namespaces")],
)
def test_where_only_a_portable_gate_works_everything_is_possible_with_it(
    handshake: Handshake, cookies: bool, reason: str
) -> None:
    sealed, bridge, _, shared, portable = network_lines(ENGINE, handshake, WORKS, cookies)
    assert (sealed.ok, bridge.ok, shared.ok, portable.ok) == (True, True, None, True)
    assert "portable" in sealed.detail
    assert reason in shared.detail


@each(
    "engine, handshake, cookies, reason",
    [
        ("no engine answers", WORKS, True, "no engine answers"),
        (ENGINE, Handshake(None, "shares no socket"), True, "shares no socket"),
        (ENGINE, WORKS, False, "namespaces"),
    ],
)
def test_where_no_gate_works_the_reason_is_given_and_processes_remain(
    engine: EngineFacts | str, handshake: Handshake, cookies: bool, reason: str
) -> None:
    sealed, bridge, processes, shared, portable = network_lines(engine, handshake, NOT_TRIED, cookies)
    assert (sealed.ok, bridge.ok, processes.ok, shared.ok, portable.ok) == (None, None, True, None, None)
    assert reason in sealed.detail
    assert reason in shared.detail
    assert "--sandbox process" in sealed.hint


def test_what_is_not_promised_is_said() -> None:
    told = " ".join(f"{line.name} {line.detail}" for line in (*untried_lines(), *client_lines()))
    for word in ("userns-remap", "rootless", "SELinux", "Docker Desktop", "rustls"):
        assert word in told
