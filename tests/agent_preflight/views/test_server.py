"""Who may look at runs: the one with the secret, on this machine, and only to look."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from agent_preflight.views.live_pages import LivePages
from agent_preflight.views.server import ViewServer
from tests.support.ledger_on_disk import call, open_store
from tests.support.run_on_disk import EVENTS, alive, begin, finish, keep_ledger, plan

pytestmark = pytest.mark.wire

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
PROTECTION = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass
class Viewer:
    """A client of a server, and the folder of runs that it shows."""

    server: ViewServer
    runs: Path
    port: int
    http: aiohttp.ClientSession

    def url(self, path: str, secret: str | None = None) -> URL:
        """Return an address as it is, without any path being made shorter."""
        return URL(f"http://127.0.0.1:{self.port}/{secret or self.server.secret}{path}", encoded=True)

    async def get(self, path: str, **more: Any) -> tuple[int, str]:
        """Return status and body of an answer."""
        async with self.http.get(self.url(path), allow_redirects=False, **more) as answer:
            return answer.status, await answer.text()

    async def raw(self, *lines: str) -> str:
        """Send a request as it stands, and return the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return answer


class Stream:
    """The changes of a page, as the server sends them."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self.version = ""

    async def next(self) -> dict[str, str]:
        """Return the fragments of the next message that has some, by name."""
        while line := await self._answer.content.readline():
            if line.startswith(b"id: "):
                self.version = line[4:].decode().strip()
            if line.startswith(b"data: "):
                changed: dict[str, str] = json.loads(line[6:])
                return changed
        raise AssertionError("the stream has ended")


@pytest.fixture
async def viewer(tmp_path: Path) -> AsyncIterator[Viewer]:
    """A server that renews its pages fifty times a second, with one run of two trials, of which one has ended."""
    runs = tmp_path / "runs"
    run = plan(runs / "run-a", "nano", "mini")
    keep_ledger(run, "nano", "mini")
    begin(run, "nano", *EVENTS)
    finish(run, "mini")
    (run / "lock").touch()
    server = ViewServer(LivePages(runs), every_s=0.02, slow_s=0.3)
    port = await server.start()
    async with aiohttp.ClientSession(read_bufsize=2**22) as http:
        yield Viewer(server, runs, port, http)
    await server.stop()


PAGES = (
    "/",
    "/run/run-a",
    "/run/run-a/trial/nano",
    "/run/run-a/calls",
    "/run/run-a/trial/nano/calls",
    "/static/page.css",
    "/static/live.js",
)
STREAMS = ("/live", "/run/run-a/live", "/run/run-a/trial/nano/live", "/run/run-a/calls/live")


async def test_with_the_secret_every_page_is_there(viewer: Viewer) -> None:
    assert [await viewer.get(path) for path in PAGES if (await viewer.get(path))[0] != 200] == []
    for path in STREAMS:
        async with viewer.http.get(viewer.url(path)) as answer:
            assert answer.status == 200
            assert answer.content_type == "text/event-stream"


@pytest.mark.parametrize("secret", ["", "wrong", "{once}x", "{secret}x", "{secret:.10}", "%73{secret}", "é", "\udc80"])
async def test_without_the_secret_everything_is_refused(viewer: Viewer, secret: str) -> None:
    given = secret.format(secret=viewer.server.secret, once=viewer.server.once)
    for path in (*PAGES, *STREAMS, "/nothing", ""):
        line = f"GET /{given}{path} HTTP/1.1".encode(errors="surrogateescape").decode("latin-1")
        answer = await viewer.raw(line, f"Host: 127.0.0.1:{viewer.port}")
        assert answer.startswith(("HTTP/1.1 403", "HTTP/1.0 400", "HTTP/1.1 400")), (line, answer)
        assert "<td" not in answer


async def test_every_start_has_secrets_of_its_own() -> None:
    servers = [ViewServer(LivePages(Path("runs"))) for _ in range(2)]
    names = {name for server in servers for name in (server.secret, server.once)}
    assert len(names) == 4
    assert min(map(len, names)) >= 32


async def test_the_address_that_a_browser_is_started_with_is_good_for_one_request(viewer: Viewer) -> None:
    once = viewer.url("/run/run-a?page=2", viewer.server.once)
    async with viewer.http.head(once, allow_redirects=False) as answer:
        assert answer.status == 403, "only a GET uses it up"
    async with viewer.http.get(once, allow_redirects=False) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, f"/{viewer.server.secret}/run/run-a?page=2")
    async with viewer.http.get(once, allow_redirects=False) as answer:
        assert answer.status == 403


@pytest.mark.parametrize(
    "hosts",
    [
        ["evil.example:{port}"],
        ["evil.example"],
        ["127.0.0.1"],
        ["127.0.0.1:1"],
        ["localhost.evil.example:{port}"],
        ["127.0.0.1:{port}.evil.example"],
        ["[::1]:{port}"],
        [],
        ["127.0.0.1:{port}", "evil.example"],
    ],
)
async def test_a_name_that_somebody_points_at_this_machine_is_refused(viewer: Viewer, hosts: list[str]) -> None:
    """DNS rebinding: the page of another site asks this server under the other site's name."""
    lines = [f"Host: {host.format(port=viewer.port)}" for host in hosts]
    answer = await viewer.raw(f"GET /{viewer.server.secret}/ HTTP/1.1", *lines)
    assert answer.startswith(("HTTP/1.1 403", "HTTP/1.0 400", "HTTP/1.1 400")), answer
    assert "nano" not in answer


async def test_localhost_is_this_machine_too(viewer: Viewer) -> None:
    answer = await viewer.raw(f"GET /{viewer.server.secret}/ HTTP/1.1", f"Host: localhost:{viewer.port}")
    assert answer.startswith("HTTP/1.1 200")


async def test_it_listens_on_127_0_0_1_alone(viewer: Viewer) -> None:
    """127.0.0.2 is this machine too, on Linux, but another address; macOS has none of that kind."""
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.2", viewer.port)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_nothing_can_be_changed(viewer: Viewer, method: str) -> None:
    files = {path: path.read_bytes() for path in viewer.runs.rglob("*") if path.is_file()}
    for path in (*PAGES, *STREAMS, "/nothing"):
        async with viewer.http.request(method, viewer.url(path), data=b"x") as answer:
            assert answer.status == 405
            assert answer.headers["Allow"] == "GET,HEAD"
    assert {path: path.read_bytes() for path in files} == files


async def test_every_answer_has_the_headers_of_security(viewer: Viewer) -> None:
    asked = [("GET", path) for path in (*PAGES, *STREAMS, "/nothing", "/run/none")]
    asked += [("POST", "/"), ("HEAD", "/"), ("HEAD", "/live")]
    seen = set()
    for method, path in asked:
        async with viewer.http.request(method, viewer.url(path)) as answer:
            seen.add(answer.status)
            assert {name: answer.headers.get(name) for name in PROTECTION} == PROTECTION, (method, path)
    async with viewer.http.get(viewer.url("/", "wrong")) as answer:
        assert {name: answer.headers.get(name) for name in PROTECTION} == PROTECTION
    async with viewer.http.get(viewer.url("/", viewer.server.once), allow_redirects=False) as answer:
        assert {name: answer.headers.get(name) for name in PROTECTION} == PROTECTION
    assert seen == {200, 404, 405}


@pytest.mark.parametrize(
    "path",
    [
        "/run/..",
        "/run/.",
        "/run/%2e%2e",
        "/run/..%2fprivate",
        "/run/%2Fetc",
        "/run/run-a%2f..%2f..%2fprivate",
        "/run/link",
        "/run/run-a/../../private",
        "/run/run-a/trial/..",
        "/run/run-a/trial/%2e%2e",
        "/run/run-a/trial/..%2f..%2fprivate",
        "/run/run-a/trial/..%2f..%2fprivate%2fprivate-trial",
        "/run/run-a/trial/link",
        "/run/run-a/trial/..%2f..%2fprivate/calls",
        "/run/run-a%00",
        "/run/%ff",
        "/run/foreign",
        "/run/file",
        "/static/..%2fserver.py",
        "/static/../server.py",
        "/static/%2e%2e%2fserver.py",
        "/static/page.css%00",
    ],
)
async def test_no_path_leads_out_of_the_runs_folder(viewer: Viewer, path: str, tmp_path: Path) -> None:
    private = plan(tmp_path / "private", "private-trial")
    begin(private, "private-trial", {"type": "private-event"})
    plan(viewer.runs / "run-a", "nano", "mini", "../../private/private-trial")
    (viewer.runs / "link").symlink_to(private)
    (viewer.runs / "run-a" / "link").symlink_to(private / "private-trial")
    (viewer.runs / "foreign").mkdir()
    (viewer.runs / "file").touch()
    for place in (path, *([path + "/live"] if "?" not in path else [])):
        answer = await viewer.raw(f"GET /{viewer.server.secret}{place} HTTP/1.1", f"Host: 127.0.0.1:{viewer.port}")
        assert answer.startswith(("HTTP/1.1 404", "HTTP/1.0 400", "HTTP/1.1 400")), answer[:200]
        assert "private-event" not in answer


async def test_links_among_runs_and_events_are_not_followed(viewer: Viewer, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text('{"type": "private-event"}\n')
    events = viewer.runs / "run-a" / "nano" / "events.jsonl"
    events.unlink()
    events.symlink_to(secret)
    (viewer.runs / "linked-run").symlink_to(viewer.runs / "run-a")
    assert "linked-run" not in (await viewer.get("/"))[1]
    status, page = await viewer.get("/run/run-a/trial/nano")
    assert status == 200
    assert "private-event" not in page


@pytest.mark.parametrize("line", ["GARBAGE\x01", "GET / HTTP/1.1\r\nX", f"GET /{'a' * 20_000} HTTP/1.1"])
async def test_what_is_no_http_is_refused_without_a_word(
    viewer: Viewer, caplog: pytest.LogCaptureFixture, line: str
) -> None:
    assert " 400 " in (await viewer.raw(line, "Host: x"))[:16]
    assert caplog.text == ""


async def test_a_version_that_is_no_number_of_ours_is_none(viewer: Viewer, caplog: pytest.LogCaptureFixture) -> None:
    async with viewer.http.get(viewer.url(f"/live?since={'9' * 5000}")) as answer:
        assert await Stream(answer).next()
    assert caplog.text == ""


async def test_a_page_that_is_not_there_says_which(viewer: Viewer) -> None:
    status, page = await viewer.get("/run/run-b")
    assert status == 404
    assert "There is no run &#34;run-b&#34; in" in page
    status, page = await viewer.get("/run/run-a/trial/big")
    assert status == 404
    assert "The run run-a has no trial &#34;big&#34;." in page


async def test_calls_are_paged_the_newest_first_and_by_trial(viewer: Viewer) -> None:
    store = open_store(viewer.runs / "run-a")
    for number in range(250):
        call(store, f"call {number}", 10**6 + number, "nano" if number % 2 else "mini")
    store.close()

    async def rows(query: str, trial: str = "") -> list[str]:
        page = (await viewer.get(f"/run/run-a{trial}/calls?{query}"))[1]
        return [part.split('"')[0] for part in page.split('<tr id="call-')[1:]]

    first, third = await rows("page=1"), await rows("page=3")
    assert (len(first), len(third)) == (100, 52)
    assert first[:2] == ["nano-252", "mini-251"]
    assert third[-1] == "nano-1"
    assert await rows("page=99") == third
    assert await rows("page=x") == await rows("page=-3") == await rows("page=" + "9" * 5000) == first
    of_mini = await rows("page=2", "/trial/mini")
    assert len(of_mini) == 26
    assert {row.rpartition("-")[0] for row in of_mini} == {"mini"}


async def test_a_stream_sends_the_fragments_that_changed_and_no_others(viewer: Viewer) -> None:
    with alive(viewer.runs / "run-a"):
        async with viewer.http.get(viewer.url("/run/run-a/calls/live?since=0")) as answer:
            stream = Stream(answer)
            assert (await stream.next()).keys() == {"calls"}
        async with viewer.http.get(viewer.url("/run/run-a/trial/nano/live?since=0")) as answer:
            stream = Stream(answer)
            everything = await stream.next()
            assert everything.keys() == {"trial", "commands", "events"}
            with (viewer.runs / "run-a" / "nano" / "events.jsonl").open("a") as file:
                file.write('{"type": "message", "text": "new words"}\n')
            changed = await stream.next()
            while "events" not in changed:
                changed = await stream.next()
            assert "new words" in changed["events"]
            assert "commands" not in changed
            seen = stream.version
        async with viewer.http.get(
            viewer.url("/run/run-a/trial/nano/live?since=0"), headers={"Last-Event-ID": seen}
        ) as answer:
            store = open_store(viewer.runs / "run-a")
            call(store, "one more", 7 * 10**9, "nano")
            store.close()
            stream, text = Stream(answer), ""
            while "$0.017" not in text:
                changed = await stream.next()
                assert "commands" not in changed, "what was seen before the connection broke is not sent again"
                text = changed.get("trial", "")


async def test_the_stream_of_a_run_that_is_over_is_quiet(viewer: Viewer) -> None:
    begin(viewer.runs / "run-a", "other", *EVENTS)
    for path in ("/run/run-a", "/run/run-a/trial/mini", "/run/run-a/calls"):
        page = (await viewer.get(path))[1]
        version = page.split('data-version="')[1].split('"')[0]
        async with viewer.http.get(viewer.url(f"{path}/live?since={version}")) as answer:
            with pytest.raises(TimeoutError):  # what is shown never is: a hundred renderings change nothing
                await asyncio.wait_for(Stream(answer).next(), 0.5)


async def test_a_viewer_that_goes_away_is_noticed_and_not_worth_a_word(
    viewer: Viewer, caplog: pytest.LogCaptureFixture
) -> None:
    """Also from a page that does not change, to which nothing is written."""
    for path in ("/run/run-a/trial/nano/live", "/run/run-a/trial/mini/calls/live") * 3:
        async with viewer.http.get(viewer.url(path)) as answer:
            await answer.content.readline()
            assert viewer.server.viewers == 1
        while viewer.server.viewers:
            await asyncio.sleep(0.01)
    assert caplog.text == ""


async def test_a_viewer_that_does_not_read_is_cut_off(viewer: Viewer, caplog: pytest.LogCaptureFixture) -> None:
    events = viewer.runs / "run-a" / "nano" / "events.jsonl"
    with alive(viewer.runs / "run-a"), socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", viewer.port))
        path = f"/{viewer.server.secret}/run/run-a/trial/nano/live"
        slow.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{viewer.port}\r\n\r\n".encode())
        while not viewer.server.viewers:
            await asyncio.sleep(0)
        number = 0
        while viewer.server.viewers:
            lines = [json.dumps({"type": "message", "n": number + n, "text": "x" * 250}) + "\n" for n in range(200)]
            number += 200
            with events.open("a") as file:
                file.writelines(lines)
            await asyncio.sleep(0.02)
    assert (await viewer.get("/run/run-a"))[0] == 200
    assert caplog.text == ""


async def test_when_the_server_ends_its_streams_end(viewer: Viewer) -> None:
    async with viewer.http.get(viewer.url("/live")) as answer:
        await answer.content.readline()
        await viewer.server.stop()
        await answer.content.read()
        assert viewer.server.viewers == 0


async def test_a_run_that_is_removed_ends_its_stream(viewer: Viewer) -> None:
    import shutil

    async with viewer.http.get(viewer.url("/run/run-a/live")) as answer:
        await answer.content.readline()
        shutil.rmtree(viewer.runs / "run-a")
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.content.read()
    assert (await viewer.get("/run/run-a"))[0] == 404


async def test_the_command_prints_the_address_and_ends_at_ctrl_c(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent_preflight", "ui", "--no-open", "--runs-dir", str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    address = next(word for word in line.split() if word.startswith("http://127.0.0.1:"))
    async with aiohttp.ClientSession() as http:
        async with http.get(address) as answer:
            assert answer.status == 200
            assert "There is no run here yet" in await answer.text()
        async with http.get(f"{address}live") as stream:
            await stream.content.readline()
            process.send_signal(signal.SIGINT)
            rest, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert b"Traceback" not in rest
