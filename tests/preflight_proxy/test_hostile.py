"""A hostile agent and a hostile upstream, on the wire: an error or a decided reservation, and no key is ever shown."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog

from openrouter_sim import Scenario
from preflight_proxy.app import RunningProxy, running
from preflight_proxy.base.control_messages import AccountSpec
from preflight_proxy.base.tasks import Tasks
from preflight_proxy.calls import relay
from preflight_proxy.calls.free_reads import FreeReads
from preflight_proxy.calls.paid_calls import PaidCalls
from preflight_proxy.calls.routes import Routes
from preflight_proxy.calls.token_counts import TokenCounts
from preflight_proxy.core.ledger.commands import Quarantine
from preflight_proxy.core.money import limit_pusd
from preflight_proxy.core.refusals.refusals import OVERDUE
from preflight_proxy.core.secret import Secret
from preflight_proxy.server.intake import Intake
from preflight_proxy.server.listeners import Listeners
from preflight_proxy.upstream.client import Upstream
from preflight_proxy.upstream.connection import TimeLimit, UpstreamAnswer
from preflight_proxy.upstream.prices import Prices
from tests.support.proxy_world import MODEL, World, chat, quick_config
from tests.support.raw_http import Raw
from tests.support.raw_upstream import RawUpstream

pytestmark = pytest.mark.wire

KEY = "sk-or-v1-0123456789abcdef"
TOKEN = "trial-token-of-a"


def port_of(base_url: str) -> int:
    return int(base_url.split(":")[2].split("/")[0])


# A hostile upstream


def document(body: bytes, head: bytes = b"200 OK") -> bytes:
    length = b"\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    return b"HTTP/1.1 " + head + length + body


def endpoint(tag: str) -> dict[str, object]:
    return {
        "tag": tag,
        "provider_name": tag,
        "context_length": 100_000,
        "max_completion_tokens": 1000,
        "supported_parameters": ["max_tokens"],
        "pricing": {"prompt": "0.000001", "completion": "0.000001"},
    }


PRICES = document(
    json.dumps(
        {"data": {"architecture": {"tokenizer": "GPT"}, "endpoints": [endpoint("one"), endpoint("two")]}}
    ).encode()
)
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def _nothing(_writer: asyncio.StreamWriter) -> None:
    """Close without a word."""


@dataclass
class Liar:
    """An upstream whose prices and key usage can be read, and whose other answers a test writes by hand."""

    upstream: RawUpstream
    proxy: RunningProxy
    client: aiohttp.ClientSession
    answers: dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]]] = field(default_factory=dict)

    def post(self, *, stream: bool = False, token: str = TOKEN) -> asyncio.Future[tuple[int, dict[str, str], bytes]]:
        return asyncio.ensure_future(self._post(chat(stream=stream), token))

    async def _post(self, body: object, token: str) -> tuple[int, dict[str, str], bytes]:
        url, headers = f"{self.proxy.base_url}/chat/completions", {"Authorization": f"Bearer {token}"}
        async with self.client.post(url, json=body, headers=headers) as response:
            return response.status, dict(response.headers), await response.read()

    def says(self, *chunks: bytes) -> None:
        """Answer inference requests with these bytes, then close."""

        async def say(writer: asyncio.StreamWriter) -> None:
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()

        self.answers["POST"] = say

    async def settled(self, account: str = "a") -> None:
        async with asyncio.timeout(30):
            while self.proxy.ledger.account(account).pending_pusd:
                await asyncio.sleep(0.01)

    def calls(self) -> int:
        return sum(head.startswith("POST") for head in self.upstream.heads())


@pytest.fixture
async def liar(tmp_path: Path) -> AsyncIterator[Liar]:
    """A proxy with one account before an upstream that never tells the truth unless a test says so."""
    answers: dict[str, Callable[[asyncio.StreamWriter], Awaitable[None]]] = {}

    async def behave(writer: asyncio.StreamWriter, _number: int) -> bool:
        line = upstream.heads()[-1]
        for part, body in (("/endpoints", PRICES), ("/key", document(b'{"data":{"usage":0}}'))):
            if part in line and part not in answers:
                writer.write(body)
                return True
        part = next((each for each in answers if each in line), "")
        await answers.get(part, _nothing)(writer)
        return False

    async with RawUpstream(behave) as upstream, aiohttp.ClientSession() as client:
        config = quick_config(tmp_path, upstream.base_url, key_usage_lag_s=0.2, generation_s_max=0.4, call_s_max=0.3)
        async with running(config) as proxy:
            spec = AccountSpec(
                limit_pusd=limit_pusd("1.00"), token=Secret(TOKEN), key=Secret(KEY), key_is_own=True, run="run"
            )
            await proxy.accounts.open("a", spec)
            yield Liar(upstream, proxy, client, answers)


LIES = {
    "no http": b"\x00\x01garbage\r\n\r\n",
    "a chunk without a size": STREAM.replace(b"Connection: close", b"Transfer-Encoding: chunked") + b"ZZZ\r\nfoo",
    "a chunk that breaks": STREAM.replace(b"Connection: close", b"Transfer-Encoding: chunked") + b"5\r\ndata:\r\nZ\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
    "a header without end": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000,
    "a status that is none": document(b"{}", b"999 Odd"),
    "another protocol": b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nxx",
    "nothing at all": b"HTTP/1.1 204 None\r\n\r\n",
    "bytes in headers": b"HTTP/1.1 200 OK\r\nContent-Type: \xff\r\nX-Generation-Id: \xff\r\nContent-Length: 2\r\n\r\n{}",
    "an id that is a path": document(b"{}", b"200 OK\r\nX-Generation-Id: ../keys?x=1"),
    "an encoding that is none": document(b"{}", b"200 OK\r\nContent-Encoding: \xff"),
    "too deep": document(b'{"usage":' + b"[" * 100_000),
    "a cost of many digits": document(b'{"usage":{"cost":' + b"9" * 5000 + b"}}"),
    "a cost that is text": document(b'{"usage":{"cost":"0.5"}}'),
    "a cost beyond numbers": document(b'{"usage":{"cost":1e900000}}'),
    "a negative cost": document(b'{"usage":{"cost":-1}}'),
    "go on for ever": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
}


@pytest.mark.parametrize("lie", LIES)
async def test_whatever_upstream_answers_the_client_hears_and_the_call_is_decided(liar: Liar, lie: str) -> None:
    liar.says(LIES[lie])
    async with asyncio.timeout(20):
        await asyncio.gather(liar.post(stream=False), liar.post(stream=True))
        await liar.settled()
    account = liar.proxy.ledger.account("a")
    assert account.posted_pusd == 0  # the key's usage shows nothing: proof
    assert liar.calls() == 2


def event(told: object) -> bytes:
    return b"data: " + json.dumps(told).encode() + b"\n\n"


REPEATED = {"error": {"code": 400, "message": f"Bad key {KEY}"}}


@pytest.mark.parametrize(
    "answer",
    [
        document(json.dumps(REPEATED).encode()),
        document(json.dumps(REPEATED).encode(), b"400 Bad"),
        document(json.dumps(REPEATED).encode(), b"500 Bad"),
        STREAM + event({"choices": []}) + event(REPEATED) + b"data: [DONE]\n\n",
        document(b"{}", f"200 OK\r\nX-Debug: {KEY}\r\nSet-Cookie: k={KEY}\r\nLocation: /{KEY}".encode()),
        document(b"{}", f"200 OK\r\nRequest-Id: {KEY}\r\nX-Generation-Id: {KEY}".encode()),
        document(b'{"error":{"message":"no"}}', f"400 Bad\r\nCache-Control: {KEY}".encode()),
    ],
    ids=["document", "400", "500", "event", "headers", "passed headers", "400 headers"],
)
async def test_a_key_that_upstream_repeats_is_not_shown(liar: Liar, answer: bytes) -> None:
    liar.says(answer)
    _status, headers, body = await liar.post(stream=True)
    assert KEY.encode() not in body
    assert KEY not in str(headers)
    assert body
    await liar.settled()


async def test_an_encoding_is_named_once(liar: Liar) -> None:
    """Twice would mean packed twice: some clients unpack so often."""
    answer = document(b"xx", b"200 OK\r\nContent-Encoding: gzip")
    liar.says(answer)
    body = json.dumps(chat()).encode()
    async with await Raw.to(port_of(str(liar.proxy.base_url))) as connection:
        head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        raw = await connection.reader.readuntil(b"\r\n\r\n")
    assert raw.lower().count(b"content-encoding") == 1
    await liar.settled()


async def test_an_event_above_every_limit_passes_unread_and_the_call_is_decided(liar: Liar) -> None:
    mebibyte = b"x" * 2**20
    liar.says(STREAM, b"data: ", *(mebibyte for _ in range(70)), b"\n\n", b"data: [DONE]\n\n")
    async with asyncio.timeout(60):
        status, _headers, body = await liar.post(stream=True)
        await liar.settled()
    assert status == 200
    assert body.count(b"x") == 70 * 2**20


async def test_one_event_larger_than_a_client_may_be_behind_arrives_with_what_follows(liar: Liar) -> None:
    """A picture in one event is lawful, and whoever reads it is not behind."""
    picture = b"data: " + b"x" * (20 * 2**20) + b"\n\n"
    liar.says(STREAM, picture, *(event({"choices": []}) for _ in range(50)), b"data: [DONE]\n\n")
    _status, _headers, body = await liar.post(stream=True)
    assert body.endswith(b"data: [DONE]\n\n")
    await liar.settled()


async def test_a_calls_longest_time_counts_from_when_it_left_not_from_its_answers_head(
    liar: Liar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After that time evidence counts on nothing of it going on (M13, M17)."""

    async def late(writer: asyncio.StreamWriter) -> None:
        head, _, body = document(b'{"choices":[],"usage":{"cost":0.001}}').partition(b"\r\n\r\n")
        await asyncio.sleep(0.7)
        writer.write(head + b"\r\n\r\n")
        await asyncio.sleep(0.7)
        writer.write(body)

    monkeypatch.setattr(relay, "CALL_S_MAX", 1.0)
    liar.answers["POST"] = late
    _status, _headers, body = await liar.post()
    assert OVERDUE.encode() in body
    await liar.settled()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer must begin within a fifth of a second."""
    monkeypatch.setattr(Upstream.__init__, "__kwdefaults__", {"head_s_max": 0.2})


@pytest.mark.usefixtures("hasty")
async def test_an_answer_that_does_not_begin_within_our_limit_is_refused_for_good(liar: Liar) -> None:
    """It may be generated and billed: a client that asked again would pay twice."""

    async def never(_writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    liar.answers["POST"] = never
    status, headers, body = await liar.post(stream=True)
    assert (status, json.loads(body)["error"]["message"]) == (402, OVERDUE)
    assert headers["x-should-retry"] == "false"
    await liar.settled()


# Answers that are another call's


BILLED = b'{"id":"gen-body-1","choices":[],"usage":{"cost":0.0001}}'
NAMED = document(BILLED, b"200 OK\r\nX-Generation-Id: gen-1")
NAMED_IN_ITS_BODY = document(BILLED)
NAMED_IN_AN_EVENT = STREAM + event(json.loads(BILLED)) + b"data: [DONE]\n\n"
REFUSED = document(b'{"error":{"code":400,"message":"no"}}', b"400 Bad\r\nX-Generation-Id: gen-1")
REFUSED_IN_ANTHROPICS_FORM = document(
    b'{"type":"error","error":{"type":"invalid_request_error","message":"no"},"request_id":"gen-body-1"}', b"400 Bad"
)
KEY_SPENT = document(
    b'{"error":{"message":"Key limit exceeded (total limit)."},"id":"gen-body-1"}', b"403 No\r\nX-Generation-Id: gen-1"
)
BUSY = document(b'{"error":{"message":"Slow"}}', b"429 Slow\r\nRetry-After: 1\r\nX-Generation-Id: gen-1")


@pytest.mark.parametrize("account", ["a", "b"])
@pytest.mark.parametrize(
    ("first", "again"),
    [
        (NAMED, NAMED),
        (NAMED_IN_ITS_BODY, NAMED_IN_ITS_BODY),
        (NAMED_IN_ITS_BODY, NAMED_IN_AN_EVENT),
        (NAMED_IN_AN_EVENT, NAMED_IN_ITS_BODY),
        (NAMED, REFUSED),
        (REFUSED, NAMED),
        (NAMED_IN_ITS_BODY, REFUSED_IN_ANTHROPICS_FORM),
        (NAMED, KEY_SPENT),
        (NAMED, BUSY),
    ],
    ids=["document", "body", "event", "body after event", "refusal", "after a refusal", "request_id", "limit", "busy"],
)
async def test_an_answer_named_by_an_id_that_another_call_has_books_nothing(
    liar: Liar, first: bytes, again: bytes, account: str
) -> None:
    """Whatever account that call is of, and though it is closed by then: the second is as unknown as one without an id."""
    spec = AccountSpec(
        limit_pusd=limit_pusd("1.00"), token=Secret("token-of-b"), key=Secret(KEY), key_is_own=True, run="run"
    )
    await liar.proxy.accounts.open("b", spec)
    liar.says(first)
    await liar.post()
    await liar.settled()
    if account == "b":
        await liar.proxy.accounts.close("a")
    posted_pusd = liar.proxy.ledger.account("a").posted_pusd
    liar.says(again)
    await liar.post(token=TOKEN if account == "a" else "token-of-b")
    (unknown,) = liar.proxy.ledger.store.pending(account)
    assert (unknown.generation_id, unknown.unknown_since_s is None) == (None, False)
    assert liar.proxy.ledger.account("a").posted_pusd == posted_pusd
    assert [each.frozen for each in liar.proxy.ledger.accounts().values()] == [
        None if account == "a" else "closed",
        None,
    ]
    await liar.settled(account)
    assert sum(each.posted_pusd for each in liar.proxy.ledger.accounts().values()) == posted_pusd
    assert liar.calls() == 2


async def test_a_proxy_that_starts_again_knows_the_ids_of_the_one_before(liar: Liar, tmp_path: Path) -> None:
    """The ledger is asked, not what a process remembers."""
    liar.says(NAMED)
    await liar.post()
    assert liar.proxy.ledger.store.is_anothers("gen-1", "another reservation")
    with sqlite3.connect(f"file:{tmp_path / 'ledger.sqlite3'}?mode=ro", uri=True) as ledger:
        ((mine,),) = ledger.execute(
            "SELECT id FROM reservations JOIN generations USING (seq) WHERE generation_id = 'gen-1'"
        )
    assert not liar.proxy.ledger.store.is_anothers("gen-1", mine)


async def test_an_id_in_the_body_is_durable_before_its_event_goes_down(liar: Liar) -> None:
    """Where the head names none."""
    told = event({"id": "gen-body-1", "choices": []})
    go_on = asyncio.Event()

    async def slowly(writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM + told)
        await writer.drain()
        await go_on.wait()
        writer.write(event({"choices": [], "usage": {"cost": 0.0001}}) + b"data: [DONE]\n\n")

    liar.answers["POST"] = slowly
    url, headers = f"{liar.proxy.base_url}/chat/completions", {"Authorization": f"Bearer {TOKEN}"}
    async with asyncio.timeout(30), liar.client.post(url, json=chat(stream=True), headers=headers) as response:
        assert await response.content.readuntil(b"\n\n") == told
        (pending,) = liar.proxy.ledger.store.pending("a")
        assert pending.generation_id == "gen-body-1"
        go_on.set()
        await response.read()
    await liar.settled()
    assert liar.proxy.ledger.account("a").posted_pusd == 100_000_000


@pytest.mark.parametrize("told", ["resp_1", "chatcmpl-hidden", "gen-", "gen-../keys", "gen-" + "x" * 200, "", 5, None])
async def test_an_id_in_the_body_that_is_no_generations_is_not_stored(liar: Liar, told: object) -> None:
    """Two calls may have it, for what it is worth."""
    liar.says(document(json.dumps({"id": told, "usage": {"cost": 0.0001}}).encode()))
    await liar.post()
    await liar.post()
    await liar.settled()
    assert liar.proxy.ledger.account("a").posted_pusd == 200_000_000


async def test_header_and_body_may_name_one_call_by_two_ids_and_the_header_counts(liar: Liar) -> None:
    liar.says(NAMED)
    await liar.post()
    assert liar.proxy.ledger.account("a").posted_pusd == 100_000_000
    assert liar.proxy.ledger.store.generation("a", "gen-1") is not None
    assert liar.proxy.ledger.store.generation("a", "gen-body-1") is None


async def test_an_error_that_names_its_call_in_the_body_is_asked_for_by_that_id(liar: Liar) -> None:
    async def tell(writer: asyncio.StreamWriter) -> None:
        writer.write(document(b'{"data":{"id":"gen-body-1","total_cost":0.0003}}'))

    liar.answers["/generation"] = tell
    liar.says(document(b'{"error":{"message":"Internal"},"request_id":"gen-body-1"}', b"500 Bad"))
    await liar.post()
    await liar.settled()
    assert liar.proxy.ledger.account("a").posted_pusd == 300_000_000


async def test_a_record_of_another_generation_tells_nothing(liar: Liar) -> None:
    """Neither a pending call nor an assumed one takes its cost."""

    async def tell(writer: asyncio.StreamWriter) -> None:
        writer.write(document(b'{"data":{"id":"gen-2","total_cost":0.0003}}'))

    liar.answers["/generation"] = tell
    liar.says(document(b"{}", b"200 OK\r\nX-Generation-Id: gen-1"))
    await liar.post()
    await liar.settled()
    assert liar.proxy.ledger.account("a").posted_pusd == 0


# Refusals that nobody served


EDGE = "\r\nServer: cloudflare\r\nCF-RAY: 8f00aa11bb22cc33-FRA"
PAGE = b"<html><h1>Sorry</h1></html>"
NOBODY = b'{"error":{"code":503,"message":"No instances available"}}'


@pytest.mark.parametrize(
    "answer",
    [
        *(document(PAGE, f"{status} No{EDGE}".encode()) for status in (403, 413, 429, 521, 523)),
        document(NOBODY, b"503 No"),
        document(b'{"error":{"message":"no","availability":{"code":"x"}}}', b"503 No"),
    ],
    ids=["403", "413", "429", "521", "523", "nobody", "availability"],
)
async def test_a_refusal_that_proves_that_nobody_was_called_is_void_at_once(liar: Liar, answer: bytes) -> None:
    liar.says(answer)
    status, headers, body = await liar.post()
    account = liar.proxy.ledger.account("a")
    assert (account.pending_pusd, account.posted_pusd) == (0, 0)
    assert status == int(answer[9:12])
    assert b"stays reserved" not in body
    assert "Retry-After" not in headers
    assert liar.calls() == 1


@pytest.mark.parametrize(
    "answer",
    [
        *(document(PAGE, f"{status} No{EDGE}".encode()) for status in (520, 522, 524, 502, 503)),
        document(PAGE, b"429 No\r\nServer: cloudflare"),
        document(PAGE, b"429 No\r\nCF-RAY: 8f00aa11bb22cc33-FRA"),
        document(PAGE, f"429 No{EDGE}\r\nX-Generation-Id: gen-1".encode()),
        document(PAGE, f"429 No{EDGE}\r\nX-Generation-Id: no id/".encode()),
        document(b"gen-1", f"429 No{EDGE}".encode()),
        document(PAGE, f"429 No{EDGE}\r\nContent-Encoding: br".encode()),
        document(PAGE + b" " * 2**20, f"429 No{EDGE}".encode()),
        document(PAGE, f"429 No{EDGE}".encode())[:-3],
        document(NOBODY, b"502 No"),
        document(NOBODY, b"503 No\r\nX-Generation-Id: gen-1"),
        document(NOBODY[:-1] + b',"id":"gen-1"}', b"503 No"),
    ],
)
async def test_a_refusal_that_lacks_one_part_of_the_proof_stays_unknown(liar: Liar, answer: bytes) -> None:
    """A body that is packed, too large or cut short may name a generation."""
    liar.says(answer)
    _status, _headers, body = await liar.post()
    assert liar.proxy.ledger.account("a").pending_pusd > 0
    assert b"stays reserved" in body or b"error" in body
    await liar.settled()


# What changes while a call waits to be sent


async def test_a_call_that_is_broken_off_while_it_waits_leaves_nothing_pending(liar: Liar) -> None:
    """As at the end of a proxy: it never left, which is proof (M13), and its client does not wait for ever."""
    call = await _held(liar)
    await liar.proxy.tasks.cancel()
    assert liar.proxy.ledger.account("a").pending_pusd == 0
    with pytest.raises(aiohttp.ClientError):
        await call
    assert liar.calls() == 1


def busy() -> bytes:
    told = json.dumps({"error": {"code": 429, "message": "Slow down"}}).encode()
    return document(told, b"429 Slow\r\nRetry-After: 1\r\nX-Generation-Id: gen-1")


async def _held(liar: Liar) -> asyncio.Future[tuple[int, dict[str, str], bytes]]:
    """A reserved call that the proxy sends again after a pause, because upstream refused the first attempt."""
    liar.says(busy())
    with structlog.testing.capture_logs() as logs:
        call = liar.post()
        async with asyncio.timeout(30):
            while "upstream.held" not in {line["event"] for line in logs}:
                await asyncio.sleep(0.01)
    liar.says(document(b"{}"))
    return call


async def test_a_call_whose_limit_is_lowered_before_it_leaves_is_not_told_that_its_run_was_ended(liar: Liar) -> None:
    call = await _held(liar)
    liar.proxy.accounts.set_limit("a", 1)
    status, _headers, body = await call
    assert status == 402
    assert b"ended by its operator" not in body
    assert liar.calls() == 1


async def test_the_id_of_a_refused_attempt_says_nothing_of_the_next_one(liar: Liar) -> None:
    """Its record shows no cost; what came after it broke off, and the key's usage shows that it was billed."""

    async def tell(writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(document(body))

    call = await _held(liar)
    del liar.answers["POST"]
    liar.answers["/generation"] = partial(tell, body=b'{"data":{"total_cost":0}}')
    liar.answers["/key"] = partial(tell, body=b'{"data":{"usage":0.0004}}')
    status, _headers, _body = await call
    assert status == 502
    await liar.settled()
    assert liar.proxy.ledger.account("a").posted_pusd == 400_000_000


@pytest.mark.parametrize(("provider_bill", "posted_pusd"), [(b"0.0003", 310_000_000), (b"null", 0)])
async def test_a_record_on_a_provider_key_of_the_callers_own_counts_with_the_providers_bill(
    liar: Liar, provider_bill: bytes, posted_pusd: int
) -> None:
    """Without it, it tells no cost: here the key's usage then shows none."""

    async def tell(writer: asyncio.StreamWriter) -> None:
        told = b'{"data":{"total_cost":0.00001,"is_byok":true,"upstream_inference_cost":' + provider_bill + b"}}"
        writer.write(document(told))

    liar.says(document(b"{}", b"200 OK\r\nX-Generation-Id: gen-1"))
    liar.answers["/generation"] = tell
    await liar.post()
    await liar.settled()
    assert liar.proxy.ledger.account("a").posted_pusd == posted_pusd


async def test_a_call_does_not_leave_for_an_endpoint_that_went_out_of_use_while_it_waited(liar: Liar) -> None:
    call = await _held(liar)
    liar.proxy.ledger.commit(Quarantine(MODEL, "one", "test"))
    status, _headers, _body = await call
    assert status == 200
    last = [request for request in liar.upstream.requests if request.startswith(b"POST")][-1]
    assert b'"only":["two"]' in last
    await liar.settled()


async def test_an_account_that_is_closed_while_its_generations_are_asked_for_stops_no_one_else(liar: Liar) -> None:
    """What is unknown of another account is decided all the same."""
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_writer: asyncio.StreamWriter) -> None:
        asked.set()
        await go_on.wait()

    liar.says(document(b"{}", b"200 OK\r\nX-Generation-Id: gen-1"))
    await liar.post()
    liar.answers["/generation"] = slow
    async with asyncio.timeout(20):
        await asked.wait()
        await liar.proxy.accounts.close("a")
        go_on.set()
        spec = AccountSpec(
            limit_pusd=limit_pusd("1.00"), token=Secret("another"), key=Secret(KEY), key_is_own=True, run="run"
        )
        await liar.proxy.accounts.open("b", spec)
        liar.says(document(b"{}"))
        url, headers = f"{liar.proxy.base_url}/chat/completions", {"Authorization": "Bearer another"}
        async with liar.client.post(url, json=chat(), headers=headers) as response:
            await response.read()
        while liar.proxy.ledger.account("b").pending_pusd:
            await asyncio.sleep(0.01)


class _Broken(Upstream):
    """A client with a fault that nobody thought of, before the first byte or with it.

    Attributes:
        sends: It lets the byte go first.
    """

    sends = False

    async def post(
        self,
        path: str,
        body: bytes,
        headers: Iterable[tuple[str, str]],
        guard: Callable[[], bool],
        limit: TimeLimit | None = None,
    ) -> UpstreamAnswer:
        assert not self.sends or guard()
        raise RuntimeError("a fault of our own")


@pytest.mark.parametrize("sends", [False, True])
async def test_a_fault_of_our_own_ends_the_call_for_its_client_and_leaves_it_to_evidence(
    liar: Liar, sends: bool
) -> None:
    """What never left needs none."""
    ledger, listeners, tasks = liar.proxy.ledger, Listeners(), Tasks()
    upstream = _Broken(liar.upstream.base_url)
    upstream.sends = sends
    async with upstream, asyncio.timeout(20):
        prices = Prices(upstream, ledger.clock)
        intake = Intake()
        paid_calls = PaidCalls(ledger, upstream, prices, tasks, intake)
        token_counts = TokenCounts(ledger, intake, paid_calls.reader)
        routes = Routes(ledger, paid_calls, FreeReads(ledger, prices, upstream), token_counts)
        host, port = await listeners.on_tcp(routes.handler(), "127.0.0.1", 0)
        url, headers = f"http://{host}:{port}/api/v1/chat/completions", {"Authorization": f"Bearer {TOKEN}"}
        async with liar.client.post(url, json=chat(), headers=headers) as response:
            assert response.status == 502
            assert (await response.json())["error"]["message"]
        await tasks.finish(10)
        assert (liar.proxy.ledger.account("a").pending_pusd > 0) is sends
        await liar.settled()
        await listeners.close()


# A hostile agent


@pytest.mark.parametrize(
    "target",
    [
        "/api/v1/chat/../keys",
        "/api/v1/chat/%2e%2e/keys",
        "/api/v1/%2e%2e/%2e%2e/keys",
        "/api/v1/./chat/completions",
        "/api/v1///chat/completions",
        "/api/v1/chat//completions",
        "/api/v1/chat/completions%00",
        "/api/v1/chat/completions;x",
        "/api/v1/chat\\completions",
        "/api/v1/%63hat/completions",
        "/api/v1/chat/completions//",
        "//api/v1/chat/completions",
        "http://openrouter.ai/api/v1/chat/completions",
        "https://openrouter.ai/api/v1/keys",
        "*",
        "openrouter.ai:443",
    ],
)
async def test_a_target_that_is_not_exactly_served_reaches_nobody(world: World, target: str) -> None:
    body = json.dumps(chat()).encode()
    for method in ("POST", "GET", "DELETE", "PATCH"):
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.tokens['a']}\r\n"
        async with await Raw.to(port_of(world.base_url)) as connection:
            connection.send(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status, _headers, told = await connection.answer()
        assert 400 <= status < 500
        assert "error" in json.loads(told)
    assert world.sim.requests == []
    assert world.proxy.ledger.account("a").pending_pusd == 0


def body_with(*fields: str) -> bytes:
    plain = f'"model":"{MODEL}"', '"messages":[{"role":"user","content":"hi"}]'
    return ("{" + ",".join([*plain, *fields]) + "}").encode()


BAD_BODIES = {
    "a number that is none": body_with('"max_tokens":NaN'),
    "beyond numbers": body_with('"max_tokens":1e900000'),
    "infinite": body_with('"max_tokens":1e999'),
    "negative": body_with('"max_tokens":-1'),
    "5,000 digits": body_with('"max_tokens":' + "9" * 5000),
    "text for a number": body_with('"max_tokens":"16"'),
    "a key twice": body_with('"provider":{"only":["openai"],"only":["azure"]}'),
    "an escaped key twice": body_with('"provider":{"only":["openai"],"\\u006fnly":["azure"]}'),
    "an escaped type": body_with('"tools":[{"type":"openrouter:web_\\u0073earch"}]'),
    "too deep": b"[" * 100_000,
    "too deep within": body_with('"tools":' + "[" * 100_000 + "]" * 100_000),
    "half a pair": body_with('"x":1').replace(b'"hi"', b'"\\ud800"'),
    "no text": body_with('"x":1').replace(b'"hi"', b'"\xff\xfe"'),
    "a mark with a price nobody knows": body_with('"cache_control":{"type":"ephemeral","ttl":"24h"}'),
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_body_that_hides_what_it_costs_is_a_4xx_and_reaches_nobody(world: World, name: str) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['a']}", "Content-Type": "application/json"}
    url = f"{world.base_url}/chat/completions"
    async with world.client.post(url, data=BAD_BODIES[name], headers=headers) as response:
        assert 400 <= response.status < 500
        assert (await response.json())["error"]["message"]
    assert world.sim.requests == []
    assert world.proxy.ledger.account("a").pending_pusd == 0
    async with world.post() as after:
        assert after.status == 200


@pytest.mark.parametrize("scenario", [Scenario(bound_choice="largest"), Scenario(bound_choice="first")])
@pytest.mark.parametrize("strict", [True, False])
async def test_two_bounds_on_the_output_bill_no_more_than_was_reserved(world: World, strict: bool) -> None:
    """OpenRouter does not say which one it takes, so no call may leave with two that differ."""
    text = "[[sim tokens=40000]]"
    prompts: dict[str, dict[str, Any]] = {
        "/chat/completions": {},
        "/messages": {},
        "/responses": {"input": text},
        "/completions": {"prompt": text},
    }
    bounds: dict[str, Any] = {"max_tokens": 30_000, "max_completion_tokens": 16, "max_output_tokens": 20_000}
    for path, prompt in prompts.items():
        async with world.post(path, text=text, **prompt, **bounds, provider={"require_parameters": strict}) as response:
            assert response.status == 200
            await response.read()
    assert [line["completion_tokens"] for line in world.cost_lines()] == [16] * 4
    assert world.proxy.ledger.account("a").overrun_pusd == 0


async def test_bytes_in_a_header_do_not_hang_a_call(world: World) -> None:
    body = json.dumps(chat()).encode()
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.tokens['a']}\r\n"
    async with await Raw.to(port_of(world.base_url)) as connection, asyncio.timeout(20):
        odd = b"X-Title: \xff\xfe\r\nUser-Agent: \xed\xa0\x80\r\nHTTP-Referer: \xc3\xa9\r\n"
        connection.send(head.encode() + odd + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        status, _headers, _told = await connection.answer()
    assert status == 200
