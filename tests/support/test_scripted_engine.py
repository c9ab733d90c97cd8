"""The scripted engine, as the real client of the Engine API meets it.

Statuses, heads and messages that stand here are those of Docker 20.10.24, asked by hand.
"""

from __future__ import annotations

import asyncio
import io
import json
import ssl
import tarfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp
import pytest
from aiodocker.containers import DockerContainer
from aiodocker.exceptions import DockerError
from aiodocker.stream import Message

from tests.support.engine_container import Container
from tests.support.scripted_engine import DROP, HANG, LOST, USUAL, Fail, ScriptedEngine, Text
from tests.support.tls import new_authority

pytestmark = pytest.mark.wire

READS_STDIN: dict[str, Any] = {"Image": "me/agent", "OpenStdin": True, "StdinOnce": True, "Labels": {"a.b": "c"}}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[ScriptedEngine]:
    """An engine that is up; when it is closed no task of it is left."""
    async with ScriptedEngine(tmp_path / "e.sock") as engine:
        yield engine
    assert not (tmp_path / "e.sock").exists()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture
async def docker(engine: ScriptedEngine) -> AsyncIterator[aiodocker.Docker]:
    """The real client; it is closed before the engine."""
    async with aiodocker.Docker(url=engine.url) as docker:
        yield docker


async def created(docker: aiodocker.Docker, name: str = "one", **more: Any) -> DockerContainer:
    """A container that reads its stdin."""
    return await docker.containers.create(READS_STDIN | more, name=name)


async def ask(engine: ScriptedEngine, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
    """Return the status of a call and what its JSON says, None without any."""
    socket = aiohttp.UnixConnector(engine.url.removeprefix("unix://"))
    async with (
        aiohttp.ClientSession(connector=socket) as session,
        session.request(method, f"http://engine{path}", data=body or None) as answer,
    ):
        text = await answer.text()
        assert answer.headers.get("Content-Type") == ("application/json" if text else None)
        return answer.status, json.loads(text) if text else None


async def raw(engine: ScriptedEngine, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send bytes on a connection of their own."""
    reader, writer = await asyncio.open_unix_connection(engine.url.removeprefix("unix://"))
    writer.write(request)
    return reader, writer


async def test_a_container_lives_and_dies_as_the_test_says(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    container = await created(docker)
    assert (await container.show())["State"]["StartedAt"] == "0001-01-01T00:00:00Z"
    async with container.attach(stdout=True, stderr=True) as out, container.attach(stdin=True) as into:
        await container.start()
        waiting = asyncio.ensure_future(container.wait())
        engine.print("one", b"hello\n", b"oh\n")
        assert [await out.read_out(), await out.read_out()] == [Message(1, b"hello\n"), Message(2, b"oh\n")]
        await into.write_in(b"a line\n")
        await engine.state.until(lambda: engine.stdin("one") == b"a line\n")
        assert not engine.stdin_closed("one")
        await into.close()
        await engine.state.until(lambda: engine.stdin_closed("one"))
        await engine.called("POST /containers/*/wait")
        engine.print("one", b"bye")
        engine.exit("one", 3, oom=True)
        assert [await out.read_out(), await out.read_out()] == [Message(1, b"bye"), None]
        assert (await waiting)["StatusCode"] == 3
    shown = await container.show()
    told = {key: shown["State"][key] for key in ("Status", "Running", "ExitCode", "OOMKilled")}
    assert told == {"Status": "exited", "Running": False, "ExitCode": 3, "OOMKilled": True}
    assert (shown["Name"], shown["Config"]["Labels"], shown["Image"]) == ("/one", {"a.b": "c"}, "sha256:agent")
    await container.delete()
    with pytest.raises(DockerError, match=f"No such container: {container.id}"):
        await container.show()


async def test_calls_are_written_down_as_they_come(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    container = await created(docker)
    await container.start()
    await docker.containers.list(all=True, filters='{"label": ["a.b=c"]}')
    assert engine.calls == [
        "GET /version",
        "POST /containers/create?name=one",
        f"POST /containers/{container.id}/start",
        'GET /containers/json?all=1&filters={"label": ["a.b=c"]}',
    ]
    assert ("POST /containers/create?name=one", READS_STDIN) in engine.bodies


async def test_what_cannot_be_done_is_refused_in_the_engines_words(engine: ScriptedEngine) -> None:
    body = json.dumps(READS_STDIN).encode()
    conflict = (
        'Conflict. The container name "/one" is already in use by container "ID". You have to remove (or rename) that'
    )
    remove = "container before attempting removal or force remove"
    paused = f"You cannot remove a paused container ID. Unpause and then stop the {remove}"
    for method, path, status, message in (
        ("POST", "/v1.41/containers/create?name=one", 201, None),
        ("POST", "/v1.41/containers/create?name=one", 409, f"{conflict} container to be able to reuse that name."),
        ("POST", "/containers/one/kill", 409, "Cannot kill container: one: Container ID is not running"),
        ("POST", "/containers/one/pause", 409, "Container ID is not running"),
        ("POST", "/containers/one/unpause", 500, "Container ID is not paused"),
        ("POST", "/containers/one/start", 204, None),
        ("POST", "/containers/one/start", 304, None),
        ("DELETE", "/containers/one", 409, f"You cannot remove a running container ID. Stop the {remove}"),
        ("POST", "/containers/one/pause", 204, None),
        ("POST", "/containers/one/pause", 409, "Container ID is already paused"),
        ("POST", "/containers/one/start", 409, "cannot start a paused container, try unpause instead"),
        ("DELETE", "/containers/one", 409, paused),
        ("POST", "/containers/one/unpause", 204, None),
        ("POST", "/containers/one/kill?signal=NOPE", 400, "Invalid signal: NOPE"),
        ("PUT", "/containers/one/archive?path=/nope", 404, "Could not find the file /nope in container one"),
        ("DELETE", "/containers/one?force=true&v=1", 204, None),
        ("DELETE", "/containers/one", 404, "No such container: one"),
        ("POST", "/containers/one/kill", 404, "Cannot kill container: one: No such container: one"),
        ("POST", "/containers/one/wait", 404, "No such container: one"),
        ("GET", "/images/no/such/json", 404, "no such image: no/such: No such image: no/such:latest"),
        ("GET", "/networks/none", 404, "network none not found"),
        ("DELETE", "/networks/bridge", 403, "bridge is a pre-defined network and cannot be removed"),
        ("DELETE", "/volumes/none", 404, "get none: no such volume"),
        ("DELETE", "/volumes/none?force=1", 204, None),
        ("GET", '/containers/json?filters={"nope":["x"]}', 400, "Invalid filter 'nope'"),
        ("GET", "/v1.41/nonsense", 404, "page not found"),
        ("GET", "/v1.99/info", 400, "client version 1.99 is too new. Maximum supported API version is 1.41"),
    ):
        found = next(iter(engine.state.containers), "no id")
        answer = await ask(engine, method, path, body if "create" in path else b"")
        said = answer[1]["message"].replace(found, "ID") if message else None
        assert (answer[0], said) == (status, message), (method, path)


async def test_an_unknown_image_is_named_with_its_tag(docker: aiodocker.Docker) -> None:
    with pytest.raises(DockerError, match="No such image: nosuch:latest") as caught:
        await created(docker, Image="nosuch")
    assert caught.value.status == 404


@pytest.mark.parametrize(("sent", "code"), [("SIGKILL", 137), ("TERM", 143), ("9", 137)])
async def test_a_signal_ends_a_container(
    engine: ScriptedEngine, docker: aiodocker.Docker, sent: str, code: int
) -> None:
    container = await created(docker)
    await container.start()
    await container.kill(signal=sent)
    assert (await container.wait())["StatusCode"] == code


async def test_a_container_may_ignore_a_signal(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    container = await created(docker)
    engine.container("one").ignored_signals.add("TERM")
    await container.start()
    await container.kill(signal="TERM")
    await container.kill(signal="USR1")
    assert (engine.container("one").running, engine.container("one").signals) == (True, ["TERM", "USR1"])


async def test_a_container_can_do_something_whenever_it_is_started(
    engine: ScriptedEngine, docker: aiodocker.Docker
) -> None:
    def at_once(container: Container) -> None:
        container.print(1, b"ready\n")
        container.end(7)

    engine.state.on_start = at_once
    container = await created(docker)
    async with container.attach(stdout=True) as out:
        await container.start()
        assert [await out.read_out(), await out.read_out()] == [Message(1, b"ready\n"), None]
    async with container.attach(stdout=True, logs=True) as late:
        assert await late.read_out() == Message(1, b"ready\n")


async def test_a_wait_is_over_when_its_condition_holds(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    container = await created(docker)
    assert (await container.wait())["StatusCode"] == 0  # it does not run
    both = [asyncio.ensure_future(container.wait(condition=one)) for one in ("next-exit", "removed")]
    await engine.called("POST /containers/*/wait", 3)
    await container.start()
    engine.exit("one", 5)
    assert (await both[0])["StatusCode"] == 5
    assert not both[1].done()
    await container.delete()
    assert (await both[1])["StatusCode"] == 5


async def test_the_heads_of_an_attach_are_the_real_engines(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    await created(docker)
    ask_for = b"POST /v1.41/containers/%s/attach?stream=1&stdin=1 HTTP/1.1\r\nHost: e\r\n%sContent-Length: 0\r\n\r\n"
    upgrade = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"
    reader, writer = await raw(engine, ask_for % (b"one", upgrade))
    head = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp"
    assert await reader.readuntil(b"\r\n\r\n") == head + b"\r\n\r\n"
    writer.write(b"x")
    writer.write_eof()
    assert await reader.read() == b""  # who carries only stdin is not kept
    assert (engine.stdin("one"), engine.stdin_closed("one")) == (b"x", True)
    writer.close()
    reader, writer = await raw(engine, ask_for % (b"two", upgrade))
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert answer.endswith(b"\r\n\r\nNo such container: two\r\n")
    assert b"Content-Type: application/vnd.docker.raw-stream\r\n" in answer
    writer.close()


async def test_output_goes_on_after_the_end_of_input(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    container = await created(docker)
    await container.start()
    query = b"POST /containers/one/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\nHost: e\r\nUpgrade: tcp\r\n\r\n"
    reader, writer = await raw(engine, query)
    await reader.readuntil(b"\r\n\r\n")
    writer.write_eof()
    await engine.state.until(lambda: engine.stdin_closed("one"))
    engine.print("one", b"more", b"not asked for")
    engine.exit("one", 0)
    assert await reader.read() == b"\x01\x00\x00\x00\x00\x00\x00\x04more"
    writer.close()


async def test_an_archive_is_kept_where_its_directory_exists(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    container: Any = await created(docker, WorkingDir="/home/agent")
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    await container.put_archive("/home/agent/", tar.getvalue())
    assert engine.container("one").archives == [("/home/agent/", tar.getvalue())]
    with pytest.raises(DockerError, match="Could not find the file /elsewhere in container"):
        await container.put_archive("/elsewhere", tar.getvalue())
    engine.container("one").directories.add("/elsewhere")
    await container.put_archive("/elsewhere", tar.getvalue())


async def test_lists_tell_what_fits_their_filters(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    await (await created(docker, "runs")).start()
    await created(docker, "waits", Labels={"a.b": "d"})
    for everything, filters, names in (
        (False, {}, ["/runs"]),
        (True, {}, ["/runs", "/waits"]),
        (True, {"label": ["a.b"]}, ["/runs", "/waits"]),
        (True, {"label": ["a.b=d"]}, ["/waits"]),
        (True, {"label": ["a"]}, []),
        (False, {"status": ["created"]}, ["/waits"]),
        (True, {"name": ["run"], "status": ["created"]}, []),
    ):
        found = await docker.containers.list(all=everything, filters=json.dumps(filters))
        assert [container["Names"][0] for container in found] == names, filters


async def test_networks_and_volumes_come_and_go(engine: ScriptedEngine, docker: Any) -> None:
    bridge = await (await docker.networks.get("bridge")).show()
    assert bridge["Options"] == {"com.docker.network.bridge.name": "docker0"}
    network = await docker.networks.create({"Name": "net", "Labels": {"run": "1"}})
    volume = await docker.volumes.create({"Name": "vol", "Labels": {"run": "1"}})
    mine = {"label": ["run=1"]}
    assert [one["Name"] for one in await docker.networks.list(filters=mine)] == ["net"]
    assert [one["Name"] for one in (await docker.volumes.list(filters=mine))["Volumes"]] == ["vol"]
    assert (await volume.show())["Labels"] == {"run": "1"}
    await network.delete()
    await volume.delete()
    assert (list(engine.state.networks), engine.state.volumes) == (["bridge"], {})


async def test_a_build_makes_an_image(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    with pytest.raises(DockerError, match="no such image: me/new:2"):
        await docker.images.inspect("me/new:2")
    lines = await docker.images.build(
        fileobj=io.BytesIO(b"a tar"), encoding="identity", tag="me/new:2", labels={"a": "b"}
    )
    image = await docker.images.inspect("me/new:2")
    assert {"aux": {"ID": image["Id"]}} in lines
    assert (image["Config"]["Labels"], image["RepoTags"]) == ({"a": "b"}, ["me/new:2"])
    assert [body for call, body in engine.bodies if call.startswith("POST /build")] == [b"a tar"]
    await created(docker, Image=image["Id"])


async def test_the_engine_tells_what_it_is(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    engine.state.version["ApiVersion"] = "1.40"
    engine.state.info["SecurityOptions"] = ["name=rootless"]
    assert (await docker.version())["ApiVersion"] == "1.40"
    assert docker.api_version == "v1.40"
    assert (await docker.system.info())["SecurityOptions"] == ["name=rootless"]
    reader, writer = await raw(engine, b"HEAD /_ping HTTP/1.1\r\nHost: e\r\nConnection: close\r\n\r\n")
    assert b"Api-Version: 1.40\r\n" in await reader.read()
    writer.close()


async def test_calls_take_their_answers_in_turn_and_the_last_one_stays(
    engine: ScriptedEngine, docker: aiodocker.Docker
) -> None:
    engine.script("GET /images/*/json", Fail(500, "no disk"), Text(200, "<html>"), USUAL)
    with pytest.raises(DockerError, match=r"\[500\] no disk"):
        await docker.images.inspect("me/agent")
    with pytest.raises(ValueError, match="Expecting value"):
        await docker.images.inspect("me/agent")
    for _ in range(2):
        assert (await docker.images.inspect("me/agent"))["Id"] == "sha256:agent"


async def test_a_call_hangs_until_it_is_no_longer_told_to(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    engine.script("POST /containers/create", HANG)
    creating = asyncio.ensure_future(created(docker))
    await engine.called("POST /containers/create")
    assert (creating.done(), engine.state.containers) == (False, {})
    engine.unscript("POST /containers/create")
    assert (await creating).id == engine.container("one").id


async def test_a_call_that_hangs_ends_with_its_client(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    engine.script("GET /info", HANG)
    asking = asyncio.ensure_future(docker.system.info())
    await engine.called("GET /info")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


async def test_a_dropped_call_has_no_effect_and_a_lost_one_has(
    engine: ScriptedEngine, docker: aiodocker.Docker
) -> None:
    engine.script("POST /containers/create", DROP, LOST, USUAL)
    for there in (0, 1):
        with pytest.raises(DockerError, match="Cannot connect to Docker Engine"):
            await created(docker)
        assert len(engine.state.containers) == there
    with pytest.raises(DockerError, match="Conflict"):
        await created(docker)


async def test_the_client_sends_all_but_a_post_again(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    container = await created(docker)
    engine.script("DELETE /containers/*", LOST, USUAL)
    with pytest.raises(DockerError, match="No such container"):
        await container.delete()
    assert [call.partition("?")[0] for call in engine.calls[-2:]] == [f"DELETE /containers/{container.id}"] * 2


async def test_dropped_connections_end_what_they_carry(engine: ScriptedEngine, docker: aiodocker.Docker) -> None:
    container = await created(docker)
    async with container.attach(stdout=True) as out:
        await container.start()
        waiting = asyncio.ensure_future(container.wait())
        await engine.called("POST /containers/*/wait")
        engine.drop_connections()
        with pytest.raises((DockerError, aiohttp.ClientError)):
            await waiting
        assert await out.read_out() is None
    assert (await container.show())["State"]["Running"]


async def test_an_engine_that_died_comes_back_with_what_it_had(
    engine: ScriptedEngine, docker: aiodocker.Docker
) -> None:
    container = await created(docker)
    async with container.attach(stdout=True) as out:
        await container.start()
        await engine.stop()
        assert await out.read_out() is None
    with pytest.raises(DockerError, match="Cannot connect to Docker Engine"):
        await container.show()
    await engine.stop()
    engine.exit("one", 4)
    await engine.start()
    assert (await container.wait())["StatusCode"] == 4


async def test_it_closes_whatever_is_open(tmp_path: Path) -> None:
    async with ScriptedEngine(tmp_path / "e.sock") as engine:
        engine.script("GET /info", HANG)
        silent = await raw(engine, b"")
        hanging = await raw(engine, b"GET /info HTTP/1.1\r\nHost: e\r\n\r\n")
        unfinished = await raw(engine, b"POST /build HTTP/1.1\r\nHost: e\r\nContent-Length: 9\r\n\r\nhalf")
        await engine.called("GET /info")
        await engine.called("POST /build")
    for reader, writer in (silent, hanging, unfinished):
        with suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_it_serves_on_a_port_and_keeps_it() -> None:
    async with ScriptedEngine(tcp=True) as engine, aiodocker.Docker(url=engine.url) as docker:
        assert engine.url.startswith("tcp://127.0.0.1:")
        await engine.stop()
        await engine.start()
        assert (await docker.version())["Version"] == "20.10.24"


async def test_it_serves_tls(tmp_path: Path) -> None:
    authority = new_authority()
    for name, text in (("cert.pem", authority.certificate), ("key.pem", authority.key.reveal())):
        (tmp_path / name).write_text(text)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    client = ssl.create_default_context(cadata=authority.root)
    client.check_hostname = False
    async with ScriptedEngine(tcp=True, ssl_context=server) as engine:
        url = engine.url.replace("tcp://", "https://")
        async with aiodocker.Docker(url=url, ssl_context=client) as docker:
            container = await created(docker)
            async with container.attach(stdin=True, stdout=True) as both:
                await container.start()
                engine.print("one", b"out")
                assert await both.read_out() == Message(1, b"out")
                await both.write_in(b"in")
                await engine.state.until(lambda: engine.stdin("one") == b"in")
                engine.exit("one", 0)
                assert await both.read_out() is None


async def test_a_fault_of_its_own_fails_the_test(tmp_path: Path) -> None:
    def fault(container: Container) -> None:
        raise ZeroDivisionError

    engine = ScriptedEngine(tmp_path / "e.sock")
    engine.state.on_start = fault
    await engine.start()
    async with aiodocker.Docker(url=engine.url) as docker:
        container = await created(docker)
        with pytest.raises(DockerError):
            await container.start()
    with pytest.raises(ExceptionGroup, match="the scripted engine itself failed"):
        await engine.__aexit__(None, None, None)
