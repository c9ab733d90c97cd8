"""What is said of a gate, as the proxy reads it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agent_preflight.sidecar.gate_request import Gate, Opening, Tls, WayOut
from preflight_proxy.core.secret import Secret
from preflight_proxy.gates.ports import EgressSpec, GateSpec, ServiceSpec, TlsSpec


def test_the_proxy_reads_what_the_runner_says() -> None:
    gate = Gate(
        Path("/s/gate.sock"),
        (8788, 443, 8789, 3000),
        Tls(443, "certificate", Secret("key")),
        (Opening("los", 3000, "127.0.0.1:3000"),),
        WayOut(8789, ("pypi.org:443",)),
    )
    assert msgspec.convert(gate.document(), GateSpec) == GateSpec(
        "/s/gate.sock",
        [8788, 443, 8789, 3000],
        TlsSpec(443, "certificate", "key"),
        [ServiceSpec("los", 3000, "127.0.0.1:3000")],
        EgressSpec(8789, ["pypi.org:443"]),
    )
    assert "'key'" not in repr(gate)


def test_a_gate_with_nothing_but_its_port_is_as_it_was() -> None:
    assert msgspec.convert(Gate(Path("/s"), (8788,)).document(), GateSpec) == GateSpec("/s", [8788])
    assert msgspec.convert({"socket": "/s", "ports": [8788]}, GateSpec) == GateSpec("/s", [8788])
