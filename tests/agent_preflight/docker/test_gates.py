"""Which kind of gate an engine can have is found by trying, kept for as long as that holds, and what was tried is gone."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from agent_preflight.docker import gates as under_test
from agent_preflight.docker.container_config import GATE_MOUNT, gate_config
from agent_preflight.docker.gates import (
    HOST_NAME,
    KEPT_MAX,
    Forwarder,
    GateMode,
    choose_gate_mode,
    firewall_advice,
    forget_gate_modes,
    forwarder_address,
    try_portable_gate,
    try_shared_gate,
)
from agent_preflight.docker.labels import TrialLabels
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.sandboxes.interface import ForwarderTarget
from preflight_proxy.base.config import state_dir
from preflight_proxy.core.errors import OperatingError
from preflight_proxy.core.gate_proof import NONCE_CHARS, Side, pass_id, proof_of
from preflight_proxy.core.secret import Secret
from tests.agent_preflight.docker.test_portable import left_of
from tests.support.engine_container import Container
from tests.support.scripted_engine import DROP, LOST, USUAL, Answer, Fail, ScriptedEngine, Text
from tests.support.short_engine_limits import no_pauses

GATE = "sha256:gate"
OWN_NONCE = "0" * NONCE_CHARS
LO = ("127.0.0.1%lo", "127.0.0.1")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test waits for a pause, and what is kept is this test's own; the kernel can tell network namespaces apart."""
    no_pauses(monkeypatch)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(under_test, "netns_cookie", lambda: 1)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake that does not come is not waited for long."""
    monkeypatch.setattr(under_test, "HANDSHAKE_S_MAX", 0.2)
    monkeypatch.setattr(under_test, "CLAIM_S_MAX", 0.1)


class Gates:
    """What the gates and forwarders of a scripted engine do when they start."""

    def __init__(self, scripted: ScriptedEngine) -> None:
        self.scripted, self.shared, self.portable = scripted, True, True
        self.strangers: list[bytes] = []
        self._open: list[Any] = []
        scripted.state.on_start = self._started
        scripted.state.networks["bridge"]["Options"] = {"com.docker.network.bridge.name": "lo"}

    @property
    def tried(self) -> int:
        """How many gates were made."""
        return sum(call.startswith("POST /containers/create") and "-gate-" in call for call in self.scripted.calls)

    def _started(self, container: Container) -> None:
        mount = container.host_config["Mounts"][0]
        assert mount["Target"] == GATE_MOUNT
        if container.config["Labels"]["agent-preflight.role"] == "forwarder":
            self._open.append(asyncio.ensure_future(self._forward(container)))
        elif self.shared and mount["Type"] == "bind":
            gate = socket.socket(socket.AF_UNIX)
            gate.connect(f"{mount['Source']}/gate.sock")
            gate.send(b"G")
            self._open.append(gate)

    async def _forward(self, container: Container) -> None:
        host, port, *_ = container.config["Entrypoint"][5:]
        trial_pass = container.config["Env"][0].removeprefix("PREFLIGHT_PASS=")
        for said in self.strangers:
            await self._say(host, int(port), said)
        if self.portable:
            await self._say(host, int(port), trial_pass)

    async def _say(self, host: str, port: int, said: bytes | str) -> None:
        reader, writer = await asyncio.open_connection(host, port)
        self._open.append(writer)
        nonce = (await reader.readexactly(NONCE_CHARS)).decode()
        if isinstance(said, str):
            proof = proof_of(Side.FORWARDER, said, nonce, OWN_NONCE, 0)
            said = f"AP2 {pass_id(said)} {OWN_NONCE} 00000 {proof}\n".encode()
        writer.write(said)

    async def close(self) -> None:
        for each in self._open:
            if isinstance(each, asyncio.Future):
                await asyncio.wait([each])
            else:
                each.close()


@pytest.fixture
async def gates(scripted: ScriptedEngine) -> Any:
    """The scripted engine's gates: both kinds work."""
    found = Gates(scripted)
    yield found
    await found.close()
    assert not scripted.state.containers
    assert not scripted.state.volumes


Choose = Callable[..., Awaitable[GateMode]]


@pytest.fixture
def choose(client: Engine, tmp_path: Path, short_dir: Path) -> Choose:
    """Choose a gate on the scripted engine."""

    async def chosen(wish: Any = "auto", image: str = GATE, engine: Engine = client) -> GateMode:
        return await choose_gate_mode(engine, wish, image, tmp_path, short_dir)

    return chosen


@pytest.mark.wire
async def test_nothing_is_tried_for_a_choice_of_shared_gates(choose: Choose, scripted: ScriptedEngine) -> None:
    assert await choose("shared") == GateMode()
    assert scripted.calls == []


@pytest.mark.wire
async def test_shared_gates_are_chosen_if_one_hands_over(choose: Choose, gates: Gates) -> None:
    choice = await choose()
    assert choice == GateMode()
    assert gates.tried == 1


@pytest.mark.wire
@pytest.mark.usefixtures("impatient")
async def test_a_portable_gate_is_tried_after_a_shared_one_and_the_reason_is_kept(choose: Choose, gates: Gates) -> None:
    gates.shared = False
    choice = await choose()
    reason = "gates are portable: this Docker engine does not share a unix socket with this machine"
    assert choice == GateMode(*LO, reason)
    assert gates.tried == 2


@pytest.mark.wire
async def test_a_kernel_that_cannot_tell_namespaces_apart_has_portable_gates(
    choose: Choose, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "netns_cookie", lambda: None)
    assert "the kernel cannot tell network namespaces apart" in (await choose()).sentence
    assert gates.tried == 1


@pytest.mark.wire
async def test_only_a_portable_gate_is_tried_for_a_choice_of_portable_gates(choose: Choose, gates: Gates) -> None:
    assert await choose("portable") == GateMode(*LO, "gates are portable, as you wish")
    assert gates.tried == 1


@pytest.mark.wire
async def test_a_connection_without_the_pass_is_not_taken_for_the_forwarder(
    choose: Choose, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "CLAIM_S_MAX", 0.02)
    claim = f"AP2 {pass_id('x')} {OWN_NONCE} 00000 {'0' * 64}\n".encode()
    gates.strangers = [claim, b"", b"GET / HTTP/1.1\r\n\r\n"]
    assert await choose("portable") == GateMode(*LO, "gates are portable, as you wish")
    gates.strangers, gates.portable = [claim], False
    forget_gate_modes()
    monkeypatch.setattr(under_test, "HANDSHAKE_S_MAX", 0.2)
    with pytest.raises(OperatingError, match=r"did not reach this machine at 127\.0\.0\.1"):
        await choose("portable")


@pytest.mark.wire
async def test_where_no_gate_works_both_reasons_are_given_and_nothing_is_kept(
    choose: Choose, scripted: ScriptedEngine, gates: Gates
) -> None:
    scripted.script("POST /containers/create", Fail(400, "no gates today"))
    scripted.script("GET /networks/bridge", Fail(404, "no bridge either"))
    with pytest.raises(OperatingError, match=r"no gates today.*; portable: .*no bridge either"):
        await choose()
    scripted.unscript("POST /containers/create")
    assert await choose() == GateMode()


@pytest.mark.wire
@pytest.mark.usefixtures("impatient")
async def test_a_choice_is_kept_and_nothing_is_started_for_it_again(
    choose: Choose, scripted: ScriptedEngine, gates: Gates
) -> None:
    gates.shared = False
    choices = [await choose(), await choose("portable")]
    scripted.calls.clear()
    assert [await choose(), await choose("portable")] == choices
    assert scripted.calls == ["GET /info"] * 2


@pytest.mark.wire
async def test_another_engine_boot_image_or_choice_is_tried_again(
    choose: Choose, scripted: ScriptedEngine, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    await choose()
    scripted.state.info["ID"] = "ANOTHER"
    await choose()
    assert gates.tried == 2
    monkeypatch.setattr(under_test, "boot_id", lambda: "another")
    await choose()
    assert gates.tried == 3
    scripted.state.images["sha256:other"] = {"Id": "sha256:other", "RepoTags": []}
    await choose(image="sha256:other")
    assert gates.tried == 4
    await choose("portable", "sha256:other")
    assert gates.tried == 5
    scripted.state.version["Version"] = "28.2.2"
    async with Engine.open(scripted.url) as upgraded:
        await choose("portable", "sha256:other", upgraded)
        await choose("portable", "sha256:other", upgraded)
    assert gates.tried == 6


@pytest.mark.wire
@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"a": 1}', b'{"a": {"portal": 5}}', b"\xff\xfe", b'{"\xff": null}', b"[" * 100_000]
)
async def test_a_damaged_file_is_ignored_and_made_anew(choose: Choose, gates: Gates, damage: bytes) -> None:
    state_dir().mkdir(parents=True)
    (state_dir() / "gates.json").write_bytes(damage)
    assert await choose() == await choose() == GateMode()
    assert gates.tried == 1


@pytest.mark.wire
async def test_a_state_directory_that_cannot_be_made_is_no_error(choose: Choose, gates: Gates, tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    assert await choose() == await choose() == GateMode()
    assert gates.tried == 2
    forget_gate_modes()


@pytest.mark.wire
async def test_a_choice_that_another_version_kept_in_another_form_is_made_again(choose: Choose, gates: Gates) -> None:
    await choose()
    path = state_dir() / "gates.json"
    path.write_text(path.read_text().replace("{}", '{"portal":{"listen_host":"127.0.0.1","host":"x"}}'))
    assert await choose() == GateMode()
    assert gates.tried == 2


@pytest.mark.wire
async def test_forgotten_choices_are_made_again(choose: Choose, gates: Gates) -> None:
    forget_gate_modes()
    await choose()
    forget_gate_modes()
    await choose()
    assert gates.tried == 2


@pytest.mark.wire
async def test_the_newest_choices_are_kept_and_no_more_in_a_folder_of_the_users_own(
    choose: Choose, scripted: ScriptedEngine, gates: Gates
) -> None:
    for number in range(KEPT_MAX + 1):
        scripted.state.info["ID"] = f"E{number}"
        await choose()
    assert [path.name for path in state_dir().iterdir()] == ["gates.json"]
    assert state_dir().stat().st_mode & 0o777 == 0o700
    scripted.state.info["ID"] = "E1"
    await choose()
    assert gates.tried == KEPT_MAX + 1
    scripted.state.info["ID"] = "E0"
    await choose()
    assert gates.tried == KEPT_MAX + 2


@pytest.mark.docker
async def test_a_gate_that_hands_over_is_tried_and_is_gone(
    engine: Engine, gate_image: str, tmp_path: Path, short_dir: Path
) -> None:
    await try_shared_gate(engine, gate_image, tmp_path, short_dir)
    assert left_of(tmp_path) == []


@pytest.mark.docker
async def test_a_portable_gate_shakes_hands_and_is_gone(engine: Engine, gate_image: str, tmp_path: Path) -> None:
    await try_portable_gate(engine, gate_image, run_dir=tmp_path)
    assert left_of(tmp_path) == []


@pytest.mark.docker
async def test_an_engine_that_shares_a_socket_has_gates_that_hand_over(
    engine: Engine, gate_image: str, tmp_path: Path, short_dir: Path
) -> None:
    assert (await choose_gate_mode(engine, "auto", gate_image, tmp_path, short_dir)).host is None
    assert left_of(tmp_path) == []


@pytest.mark.docker
async def test_an_engine_that_shares_no_socket_has_portable_gates(
    engine: Engine, gate_image: str, tmp_path: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's files are not ours here: every directory that we mount into a gate is another, empty one there."""
    monkeypatch.setattr(under_test, "HANDSHAKE_S_MAX", 1.5)

    def elsewhere(*args: Any) -> dict[str, Any]:
        body = gate_config(*args)
        mounts = body["HostConfig"]["Mounts"]
        if mounts[0]["Type"] == "bind":
            mounts[0] = {"Type": "tmpfs", "Target": GATE_MOUNT}
        return body

    monkeypatch.setattr(under_test, "gate_config", elsewhere)
    choice = await choose_gate_mode(engine, "auto", gate_image, tmp_path, short_dir)
    assert choice.host is not None
    assert "does not share a unix socket" in choice.sentence
    assert left_of(tmp_path) == []
    monkeypatch.setattr(under_test, "gate_config", None)
    assert await choose_gate_mode(engine, "auto", gate_image, tmp_path, short_dir) == choice


@pytest.mark.docker
async def test_the_error_of_a_forwarder_that_does_not_connect_names_the_address_and_what_to_allow(
    engine: Engine, gate_image: str, tmp_path: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bridge's interface is taken for loopback's, so the forwarder looks for us in its own container."""
    monkeypatch.setattr(under_test, "HANDSHAKE_S_MAX", 1.0)

    async def loopback(engine: Engine) -> tuple[str, str]:
        return LO

    monkeypatch.setattr(under_test, "forwarder_address", loopback)
    with pytest.raises(OperatingError, match=r"machine at 127\.0\.0\.1 within 1 s.*accept TCP from the interface lo"):
        await choose_gate_mode(engine, "portable", gate_image, tmp_path, short_dir)
    assert left_of(tmp_path) == []


PASS = "p" * 43
TAG = TrialLabels("run-1", Path("/runs/run-1"), "alpha", "boot:1:2", "2026-12-02T00:00:00+00:00", "abcdef")
BOTH_OK = {"forwarder": "ok", "volume": "ok"}
REMOVE_VOLUME = "DELETE /volumes/*"


@pytest.fixture
def forwarder(client: Engine) -> Forwarder:
    """One that is not open."""
    return Forwarder(client, TAG, ForwarderTarget("172.17.0.1", 4711, Secret(PASS)))


@pytest.mark.wire
async def test_the_pass_is_in_the_environment_and_nowhere_else(forwarder: Forwarder, scripted: ScriptedEngine) -> None:
    await forwarder.open("sha256:gate", (8788, 443))
    made = scripted.container(TAG.name("forwarder"))
    assert made.config["Env"] == [f"PREFLIGHT_PASS={PASS}"]
    assert made.config["Entrypoint"][-5:] == ["/run/preflight-gate/gate.sock", "172.17.0.1", "4711", "8788", "443"]
    assert made.running
    assert str(scripted.bodies).count(PASS) == 1
    assert PASS not in str([scripted.calls, made.config["Labels"], repr(forwarder), vars(forwarder)])


@pytest.mark.wire
async def test_its_volume_is_there_first_with_the_labels_that_a_sweep_looks_for(
    forwarder: Forwarder, scripted: ScriptedEngine
) -> None:
    await forwarder.open("sha256:gate", (8788,))
    assert [call.partition("?")[0].split("/")[1] for call in scripted.calls] == ["volumes", "containers", "containers"]
    assert scripted.state.volume(TAG.name("volume"))["Labels"] == TAG.labels("volume")


@pytest.mark.wire
async def test_it_goes_before_its_volume(forwarder: Forwarder, scripted: ScriptedEngine) -> None:
    await forwarder.open("sha256:gate", (8788,))
    assert await forwarder.close() == BOTH_OK
    removed = [call.split("/")[1] for call in scripted.calls if call.startswith("DELETE")]
    assert removed == ["containers", "volumes", "volumes"]
    assert not scripted.state.containers
    assert not scripted.state.volumes


@pytest.mark.wire
async def test_one_that_was_never_opened_has_nothing_to_close(forwarder: Forwarder, scripted: ScriptedEngine) -> None:
    assert await forwarder.close() == BOTH_OK
    assert scripted.calls == []


@pytest.mark.wire
async def test_a_volume_that_stays_is_a_failed_step(forwarder: Forwarder, scripted: ScriptedEngine) -> None:
    await forwarder.open("sha256:gate", (8788,))
    scripted.script(REMOVE_VOLUME, Text(204, ""))
    assert await forwarder.close() == {"forwarder": "ok", "volume": "failed"}


@pytest.mark.parametrize("answer", [DROP, Fail(500, "no such volume"), Fail(409, "volume is in use"), LOST])
@pytest.mark.wire
async def test_a_volume_of_which_the_engine_says_nothing_is_unverified_and_a_second_close_finishes(
    forwarder: Forwarder, scripted: ScriptedEngine, answer: Answer
) -> None:
    await forwarder.open("sha256:gate", (8788,))
    scripted.script(REMOVE_VOLUME, answer)
    assert await forwarder.close() == {"forwarder": "ok", "volume": "unverified"}
    scripted.unscript(REMOVE_VOLUME)
    assert await forwarder.close() == BOTH_OK
    assert not scripted.state.volumes


@pytest.mark.wire
async def test_an_engine_that_refuses_the_volume_says_why_and_no_container_is_made(
    forwarder: Forwarder, scripted: ScriptedEngine
) -> None:
    scripted.script("POST /volumes/create", Fail(500, "no space left on device"))
    with pytest.raises(DockerError, match=r"^making the gate's volume: no space left on device$"):
        await forwarder.open("sha256:gate", (8788,))
    assert not scripted.state.containers
    assert await forwarder.close() == BOTH_OK


@pytest.mark.parametrize("call", ["POST /volumes/create", "POST /containers/create", "POST /containers/*/start"])
@pytest.mark.wire
async def test_what_was_made_before_an_answer_was_lost_is_removed(
    forwarder: Forwarder, scripted: ScriptedEngine, call: str
) -> None:
    scripted.script(call, LOST, USUAL)
    with pytest.raises(DockerError, match="closed the connection"):
        await forwarder.open("sha256:gate", (8788,))
    assert scripted.state.volumes
    assert await forwarder.close() == BOTH_OK
    assert not scripted.state.containers
    assert not scripted.state.volumes


NAME = "com.docker.network.bridge.name"


@pytest.mark.wire
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no engine has its bridge on this machine")
async def test_forwarders_reach_the_bridge_of_an_engine_on_this_machine(
    client: Engine, scripted: ScriptedEngine
) -> None:
    scripted.state.networks["bridge"]["Options"] = {NAME: "lo"}
    place = await forwarder_address(client)
    assert place == LO
    assert "from the interface lo to 127.0.0.1" in firewall_advice(place[0])


@pytest.mark.wire
@pytest.mark.parametrize("options", [{NAME: "nosuchbridge0"}, {NAME: "x" * 100}])
async def test_forwarders_of_an_engine_in_a_virtual_machine_reach_our_loopback(
    client: Engine, scripted: ScriptedEngine, options: dict[str, str]
) -> None:
    scripted.state.networks["bridge"]["Options"] = options
    place = await forwarder_address(client)
    assert place == ("127.0.0.1", HOST_NAME)
    assert "connect to 127.0.0.1" in firewall_advice(place[0])


@pytest.mark.wire
@pytest.mark.parametrize("options", [{}, None])
async def test_a_bridge_without_a_name_is_docker0(
    client: Engine, scripted: ScriptedEngine, options: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    interfaces = {"docker0": psutil.net_if_addrs()["lo"]}
    monkeypatch.setattr("agent_preflight.docker.gates.psutil.net_if_addrs", lambda: interfaces)
    scripted.state.networks["bridge"]["Options"] = options
    assert await forwarder_address(client) == ("127.0.0.1%docker0", "127.0.0.1")


@pytest.mark.wire
async def test_an_engine_without_a_bridge_is_an_error(client: Engine, scripted: ScriptedEngine) -> None:
    scripted.script("GET /networks/bridge", Fail(404, "network bridge not found"))
    with pytest.raises(DockerError, match="looking at the network bridge: network bridge not found") as caught:
        await forwarder_address(client)
    assert caught.value.failure is Failure.GONE
