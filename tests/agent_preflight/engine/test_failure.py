"""What a call of the engine raises, by what became of it: the status of an answer, a connection, a limit; never a sentence."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure, cause_of, of_status
from preflight_proxy.core.errors import OperatingError
from tests.support.cases import each
from tests.support.scripted_engine import DROP, HANG, LOST, Answer, Fail, ScriptedEngine, Text
from tests.support.short_engine_limits import SHORT_S, short_limits
from tests.support.unprivileged import unprivileged

pytestmark = pytest.mark.wire

BODY = {"Image": "me/agent"}
Call = Callable[[Engine], Awaitable[object]]

CALLS: dict[str, Call] = {
    "asking Docker what it is": lambda engine: engine.info(),
    "creating it": lambda engine: engine.create("one", BODY, "creating it"),
    "starting it": lambda engine: engine.start("c", "starting it"),
    "writing into /w": lambda engine: engine.put("c", "/w", b"tar"),
    "attaching to the agent": lambda engine: engine.attach("c", stdin=True),
    "waiting for a container": lambda engine: engine.wait("c", SHORT_S),
    "sending TERM": lambda engine: engine.kill("c", "TERM"),
    "removing a container": lambda engine: engine.remove("c"),
    "looking at a container": lambda engine: engine.look("c"),
    "listing volumes": lambda engine: engine.listed("volumes", {"l": None}),
    "looking at the network n": lambda engine: engine.network("n"),
    "making the gate's volume": lambda engine: engine.make_volume("v", {}),
    "removing a volume": lambda engine: engine.remove_volume("v"),
    "looking for the image i": lambda engine: engine.image("i"),
    "building i": lambda engine: engine.build("i", b"tar", {}),
}
READS = [doing for doing in CALLS if doing.split(" ")[0] in ("asking", "creating", "looking", "listing", "building")]
"""The calls that make something of an answer's body."""


async def failed(call: Awaitable[object]) -> DockerError:
    """What a call raises."""
    with pytest.raises(DockerError) as caught:
        await call
    return caught.value


@each(
    "status, failure",
    [
        (404, Failure.GONE),
        (409, Failure.CONFLICT),
        (400, Failure.REFUSED),
        (401, Failure.REFUSED),
        (403, Failure.REFUSED),
        (500, Failure.FAILED),
        (502, Failure.FAILED),
        (503, Failure.FAILED),
    ],
)
def test_a_status_has_one_meaning(status: int, failure: Failure) -> None:
    assert of_status(status) is failure


def test_a_failure_proves_nothing_by_default() -> None:
    assert isinstance(DockerError("x"), OperatingError)
    assert DockerError("x").failure is Failure.FAILED


@pytest.mark.parametrize("doing", CALLS)
@pytest.mark.parametrize(
    ("status", "failure"), [(409, Failure.CONFLICT), (400, Failure.REFUSED), (500, Failure.FAILED)]
)
async def test_every_call_says_what_it_did_and_the_engines_words(
    client: Engine, scripted: ScriptedEngine, doing: str, status: int, failure: Failure
) -> None:
    scripted.script("*", Fail(status, "it is\n  Monday"))
    error = await failed(CALLS[doing](client))
    assert (str(error), error.failure) == (f"{doing}: it is Monday", failure)


@pytest.mark.parametrize("doing", CALLS)
async def test_every_call_on_an_engine_that_hangs_ends_within_its_limit(
    client: Engine, scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch, doing: str
) -> None:
    short_limits(monkeypatch)
    scripted.script("*", HANG)
    async with asyncio.timeout(5):
        error = await failed(CALLS[doing](client))
    assert error.failure is Failure.TIMEOUT
    text = f"{doing}: Docker at {scripted.url} did not answer within 0.15 s; it may be overloaded, or hang."
    assert str(error) == text


@pytest.mark.parametrize("doing", CALLS)
@pytest.mark.parametrize("answer", [DROP, LOST])
async def test_every_call_whose_connection_breaks_is_lost(
    client: Engine, scripted: ScriptedEngine, doing: str, answer: Answer
) -> None:
    scripted.script("*", answer)
    error = await failed(CALLS[doing](client))
    assert error.failure is Failure.LOST
    assert str(error) == f"{doing}: Docker at {scripted.url} closed the connection; it may be restarting."


@pytest.mark.parametrize("doing", CALLS)
async def test_every_call_on_an_engine_that_is_gone_says_where_it_was_looked_for(
    client: Engine, scripted: ScriptedEngine, doing: str
) -> None:
    await scripted.stop()
    error = await failed(CALLS[doing](client))
    assert error.failure in (Failure.UNREACHABLE, Failure.LOST)
    error = await failed(CALLS[doing](client))
    assert error.failure is Failure.UNREACHABLE
    where = f"{doing}: no Docker engine answers at {scripted.url}: No such file or directory. Start Docker"
    assert str(error).startswith(where)


@pytest.mark.parametrize("doing", READS)
@pytest.mark.parametrize(
    "answer", [Text(200, "<html>Hello</html>", "text/html"), Text(200, "5"), Text(200, '"x"'), Text(200, b"\xff\xfe")]
)
async def test_the_error_of_an_answer_that_is_not_dockers_says_so(
    client: Engine, scripted: ScriptedEngine, doing: str, answer: Answer
) -> None:
    scripted.script("*", answer)
    error = await failed(CALLS[doing](client))
    assert error.failure is Failure.NOT_DOCKER
    assert str(error).startswith(f"{doing}: what answers at {scripted.url} is no Docker engine (")


@pytest.mark.parametrize(
    "answer", [Text(500, '{"message": null}'), Text(500, '{"message": {}}'), Text(400, "{}"), Text(500, "[]")]
)
async def test_an_error_without_words_is_an_error_all_the_same(
    client: Engine, scripted: ScriptedEngine, answer: Answer
) -> None:
    scripted.script("*", answer)
    for call in CALLS.values():
        assert (await failed(call(client))).failure in (Failure.NOT_DOCKER, Failure.FAILED, Failure.REFUSED)


async def test_an_engines_words_are_cut(client: Engine, scripted: ScriptedEngine) -> None:
    scripted.script("*", Fail(500, "x" * 100_000))
    assert len(str(await failed(client.info()))) < 600


async def test_a_wait_that_is_cut_off_in_its_answer_is_lost(client: Engine, scripted: ScriptedEngine) -> None:
    made = await client.create("one", BODY, "creating it")
    await client.start(made, "starting it")
    waiting = asyncio.ensure_future(failed(client.wait(made)))
    await scripted.called("POST /containers/*/wait")
    await asyncio.sleep(0.05)  # the head of the answer has arrived
    scripted.drop_connections()
    assert (await waiting).failure is Failure.LOST


async def test_a_call_that_is_broken_off_is_no_failure(client: Engine, scripted: ScriptedEngine) -> None:
    scripted.script("*", HANG)
    call = asyncio.ensure_future(client.info())
    await scripted.called("GET /info")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_after_a_restart_of_the_engine_calls_work_again(client: Engine, scripted: ScriptedEngine) -> None:
    apart = client.apart()
    for one in (client, apart):
        await one.info()
    await scripted.stop()
    await scripted.start()
    for one in (client, apart):
        assert await outcome(one.create(f"c{id(one)}", BODY, "creating it")) in (None, Failure.LOST)
        assert (await one.info())["ID"] == "SCRIPTED"
        await one.create(f"d{id(one)}", BODY, "creating it")


async def outcome(call: Awaitable[object]) -> Failure | None:
    """How a call fails; None if it does not."""
    try:
        await call
    except DockerError as exc:
        return exc.failure
    return None


async def opened(url: str) -> DockerError:
    """What looking for the engine at this address raises."""

    async def call() -> None:
        async with Engine.open(url):
            pass

    return await failed(call())


async def test_a_port_without_a_listener_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = await opened(f"tcp://127.0.0.1:{port}")
    assert error.failure is Failure.UNREACHABLE
    where = f"looking for Docker: no Docker engine answers at tcp://127.0.0.1:{port}: Connection refused. Start Docker"
    assert str(error).startswith(where)


async def test_a_socket_that_is_left_over_is_unreachable(short_dir: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(short_dir / "e.sock"))
    error = await opened(f"unix://{short_dir}/e.sock")
    assert error.failure is Failure.UNREACHABLE
    assert "Connection refused" in str(error)


@pytest.mark.parametrize("path", ["/no/such.sock", "/" + "x" * 200, "/etc/passwd"])
async def test_a_path_that_is_no_socket_is_unreachable(path: str) -> None:
    error = await opened(f"unix://{path}")
    assert error.failure is Failure.UNREACHABLE
    assert "None" not in str(error)


async def test_an_unknown_host_name_is_unreachable_and_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = await opened("tcp://build.example:2375")
    assert error.failure is Failure.UNREACHABLE
    assert "Name or service not known" in str(error)


async def test_the_error_of_a_socket_that_this_user_may_not_open_says_what_to_do(
    scripted: ScriptedEngine, short_dir: Path
) -> None:
    short_dir.chmod(0o755)
    (short_dir / "engine.sock").chmod(0)
    with unprivileged():
        error = await opened(scripted.url)
    assert error.failure is Failure.UNREACHABLE
    where = f"looking for Docker: you may not use Docker at {scripted.url}: add yourself to the group docker"
    assert str(error).startswith(where)


@pytest.mark.parametrize(
    ("said", "failure"),
    [
        (b"", Failure.LOST),
        (b"SSH-2.0-OpenSSH_9.2\r\n", Failure.NOT_DOCKER),
        (b"\x16\x03\x01\x00\xff" * 100, Failure.NOT_DOCKER),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", Failure.LOST),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\nContent-Type: text/html\r\n\r\n<html>", Failure.NOT_DOCKER),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nContent-Type: text/html\r\n\r\n<html>", Failure.NOT_DOCKER),
        (b"HTTP/1.1 302 Found\r\nLocation: /version\r\nContent-Length: 0\r\n\r\n", Failure.NOT_DOCKER),
    ],
)
async def test_the_first_call_says_that_a_server_is_not_docker(short_dir: Path, said: bytes, failure: Failure) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, short_dir / "x.sock")
    async with server:
        error = await opened(f"unix://{short_dir}/x.sock")
    assert error.failure is failure
    assert str(error).startswith("looking for Docker: ")


async def test_an_engine_that_hangs_when_it_is_looked_for_is_not_waited_for(
    scripted: ScriptedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    short_limits(monkeypatch)
    scripted.script("GET /version", HANG)
    assert (await opened(scripted.url)).failure is Failure.TIMEOUT


@pytest.mark.parametrize("answer", ["{}", '{"ApiVersion": 5}', '{"Version": "1", "ApiVersion": null}'])
async def test_a_version_that_tells_nothing_is_no_engines(scripted: ScriptedEngine, answer: str) -> None:
    scripted.script("GET /version", Text(200, answer))
    assert (await opened(scripted.url)).failure is Failure.NOT_DOCKER


RUNC = "failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: "
NEWER = "failed to create task for container: " + RUNC
INSTALL = "Correct the agent's command, or install it in the image"


@each(
    "message, cause",
    [
        (
            f'{RUNC}exec: "nope": executable file not found in $PATH: unknown',
            f'exec: "nope": executable file not found in $PATH. {INSTALL}',
        ),
        (
            f'{NEWER}error during container init: exec: "nope": executable file not found in $PATH: unknown',
            f'exec: "nope": executable file not found in $PATH. {INSTALL}',
        ),
        (
            f'{RUNC}exec: "/no": stat /no: no such file or directory: unknown',
            f'exec: "/no": stat /no: no such file or directory. {INSTALL}',
        ),
        (
            f'{RUNC}exec: "/etc": permission denied: unknown',
            'exec: "/etc": permission denied. It must be a program that may be executed (chmod +x in the image)',
        ),
        (
            (
                f"{RUNC}error during container init: error setting rlimits for ready process: error setting rlimit type 7: "
                "operation not permitted: unknown"
            ),
            "error setting rlimits for ready process: error setting rlimit type 7: operation not permitted",
        ),
        (
            (
                f'{RUNC}error during container init: error mounting "/a" to rootfs at "/etc": not a directory: unknown: Are you '
                "trying to mount a directory onto a file (or vice-versa)?"
            ),
            (
                'error mounting "/a" to rootfs at "/etc": not a directory: Are you trying to mount a directory onto a file (or '
                "vice-versa)?"
            ),
        ),
        (
            (
                "driver failed programming external connectivity on endpoint ap-x (7dbc166d99): Bind for 0.0.0.0:99 failed: port "
                "is already allocated"
            ),
            "Bind for 0.0.0.0:99 failed: port is already allocated",
        ),
        ("no space left\n\nno such image: x", "no space left no such image: x"),
        ("\x1b[31mit is\n\n   \x1b]0;title\x07Monday\x1b[0m", "it is Monday"),
        ("the error is unknown: ask", "the error is unknown: ask"),
        ("exec /bin/x: exec format error", "exec /bin/x: exec format error. The image is for another platform"),
        ("", ""),
    ],
)
def test_the_cause_is_what_stands_below_all_that_names_the_engines_parts(message: str, cause: str) -> None:
    assert cause_of(message) == cause
