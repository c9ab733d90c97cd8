"""Who asks, and for what: tokens, exact paths, and the parts of HTTP that a proxy must not guess about."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from preflight_proxy.calls.routes import TOKEN_CHARS_MAX, hash_token
from preflight_proxy.core.shapes import SHAPES
from tests.support.proxy_world import World, chat
from tests.support.raw_http import Raw, is_error

pytestmark = pytest.mark.wire

CHAT = "/api/v1/chat/completions"


@pytest.fixture
async def agent(world: World) -> AsyncIterator[Raw]:
    """One connection to the proxy."""
    async with await Raw.to(int(world.base_url.split(":")[2].partition("/")[0])) as connection:
        yield connection


def post(world: World, *headers: str, path: str = CHAT, body: bytes | None = None, token: str | None = None) -> bytes:
    """A request's bytes."""
    content = json.dumps(chat()).encode() if body is None else body
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {token or world.tokens['a']}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content


# Tokens


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_token_is_a_bearer(world: World, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {world.tokens['a']}"}
    async with world.client.get(world.base_url + "/key", headers=headers) as response:
        assert response.status == 200


async def test_the_token_may_come_as_anthropics_clients_send_it(world: World) -> None:
    async with world.client.get(world.base_url + "/key", headers={"x-api-key": world.tokens["a"]}) as response:
        assert response.status == 200


@pytest.mark.parametrize("empty", ["", "Bearer", "Bearer ", "bearer   "])
async def test_an_empty_token_beside_the_right_one_is_none(world: World, empty: str) -> None:
    headers = {"Authorization": empty, "x-api-key": world.tokens["a"]}
    async with world.client.get(world.base_url + "/key", headers=headers) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer "), ("x-api-key", "")],
        [("Authorization", "Bearer x"), ("x-api-key", "{token}")],
        [("Authorization", "")],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", "{token}")],
        [("Authorization", "Basic {token}")],
        [("Authorization", "Bearer {token}x")],
        [("Authorization", "Bearer {token}, Bearer {token}")],
        [("Authorization", "Bearer {token}"), ("Authorization", "Bearer {token}")],
        [("Authorization", "Basic eDp5"), ("x-api-key", "{token}")],
        [("x-api-key", "{token}"), ("x-api-key", "{token}")],
        [("x-api-key", "Bearer {token}")],
        [("Authorization", "Bearer " + "x" * (TOKEN_CHARS_MAX + 1))],
        [("Authorization", "Bearer pf-\u00e9")],
        [("Cookie", "Authorization={token}")],
    ],
)
@pytest.mark.parametrize("path", ["/key", "/chat/completions", "/nothing"])
async def test_without_exactly_one_known_token_the_answer_is_401(
    world: World, headers: list[tuple[str, str]], path: str
) -> None:
    sent = [(name, value.format(token=world.tokens["a"])) for name, value in headers]
    method = "POST" if path.startswith("/chat") else "GET"
    async with world.client.request(method, world.base_url + path, headers=sent, data=b"{}") as response:
        assert response.status == 401
        assert (response.headers["x-should-retry"], "Retry-After" in response.headers) == ("false", False)
        assert is_error(await response.read(), 401)
    assert world.sim.requests == []


async def test_a_real_key_is_no_token(world: World) -> None:
    key = world.proxy.ledger.account_state("a").key
    assert key is not None
    for real in (key.reveal(), world.sim.inference_key, world.sim.admin_key):
        async with world.post(token=real) as response:
            assert response.status == 401


def test_the_store_keeps_a_hash_of_the_token() -> None:
    assert hash_token("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# Paths


@pytest.mark.parametrize("path", sorted(SHAPES))
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_what_spends_money_is_a_post(world: World, method: str, path: str) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['a']}"}
    async with world.client.request(method, world.base_url + path, headers=headers, json=chat()) as response:
        assert response.status == (400 if path == "/messages" else 404)
    assert world.sim.requests == []


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1", "/v2/key", "/api/v2/key", "/api/v1/", "/api/v1/Key", "/api/v1/key//"]
)
async def test_what_is_not_served_is_a_404(world: World, path: str) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['a']}"}
    async with world.client.get(world.base_url.removesuffix("/api/v1") + path, headers=headers) as response:
        assert response.status == 404
        assert is_error(await response.read(), 404)


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/api/v1/"])
async def test_a_probe_of_the_base_url_is_answered(world: World, path: str) -> None:
    async with world.client.head(world.base_url.removesuffix("/api/v1") + path) as response:
        assert response.status == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}])
async def test_anyone_may_read_health_and_it_shows_no_secret(world: World, headers: dict[str, str]) -> None:
    url = world.base_url.removesuffix("/api/v1") + "/health"
    async with world.client.get(url, headers=headers) as response:
        assert (response.status, await response.read()) == (200, b'{"status":"ok"}')
        assert not [name for name in response.headers if name.lower().startswith("x-budget")]
        length = response.headers["Content-Length"]
    async with world.client.head(url, headers=headers) as response:
        assert (response.status, response.headers["Content-Length"], await response.read()) == (200, length, b"")
    async with world.client.post(url, headers=headers) as response:
        assert response.status == 401
    assert world.sim.requests == []


@pytest.mark.parametrize("is_full", [False, True])
async def test_health_is_bad_where_nothing_can_be_reserved(world: World, is_full: bool) -> None:
    url, store = world.base_url.removesuffix("/api/v1") + "/health", world.proxy.ledger.store
    if is_full:
        assert store._space.use()
    else:
        store.poison("the disk is gone")
    for ask in (world.client.get, world.client.head):
        async with ask(url) as response:
            assert response.status == 503
    async with world.client.get(url) as response:
        assert await response.json() == {"status": "the ledger cannot be written"}


@pytest.mark.parametrize(
    ("query", "arrives"), [("", ""), ("?", ""), ("?beta=true", "?beta=true"), ("?beta=false", ""), ("?provider=x", "")]
)
async def test_only_a_known_query_goes_upstream(world: World, agent: Raw, query: str, arrives: str) -> None:
    agent.send(post(world, path=CHAT + query))
    assert (await agent.answer())[0] == 200
    assert world.sim.requests[-1].path.removeprefix("/api/v1") == "/chat/completions" + arrives


# HTTP


async def test_a_client_that_expects_100_continue_gets_it(world: World, agent: Raw) -> None:
    head, _, body = post(world, "Expect: 100-continue").partition(b"\r\n\r\n")
    agent.send(head + b"\r\n\r\n")
    assert await agent.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    agent.send(body)
    assert (await agent.answer())[0] == 200
    assert all(name.lower() != "expect" for name in world.sim.requests[-1].headers)


async def test_any_other_expectation_is_a_417(world: World, agent: Raw) -> None:
    agent.send(post(world, "Expect: a-miracle"))
    assert (await agent.answer())[0] == 417
    assert world.sim.requests == []


OFFERS = {
    "java": [
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    ],
    "curl": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"],
    "tls": ["Connection: Upgrade", "Upgrade: TLS/1.0"],
    "no name that is known": ["Connection: Upgrade", "Upgrade: foo"],
    "one that Connection does not name": ["Upgrade: h2c"],
    "several": ["Connection: Upgrade", "Upgrade: h2c, foo/2", "Upgrade: bar"],
    "settings alone": ["HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"],
    "empty": ["Connection: Upgrade", "Upgrade: "],
}
"""What clients send that would rather speak another protocol."""


@pytest.mark.parametrize("body", ["length", "chunks"])
@pytest.mark.parametrize("offer", OFFERS)
async def test_an_offer_of_another_protocol_is_ignored(world: World, agent: Raw, offer: str, body: str) -> None:
    """A client that would upgrade must take an answer in HTTP/1.1. Source: RFC 9110, section 7.8."""
    request = post(world, *OFFERS[offer])
    if body == "chunks":
        head, _, content = request.partition(b"\r\n\r\n")
        head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length"))
        half = len(content) // 2
        parts = [content[:half], content[half:], b""]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        request = head + b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    agent.send(request)
    status, headers, answer = await agent.answer()
    assert (status, headers.get("upgrade")) == (200, None)
    assert json.loads(answer)["choices"]
    sent = {name.lower() for name, _ in world.sim.requests[-1].headers.items()}
    assert sent.isdisjoint({"upgrade", "http2-settings"})


async def test_an_offer_may_come_with_a_stream_and_with_a_read(world: World, agent: Raw) -> None:
    agent.send(post(world, *OFFERS["java"], body=json.dumps(chat(stream=True)).encode()))
    assert (await agent.reader.read()).rstrip().endswith(b"data: [DONE]\n\n\r\n0")
    headers = {"Authorization": f"Bearer {world.tokens['a']}", "Upgrade": "h2c", "Connection": "Upgrade"}
    async with world.client.get(world.base_url + "/key", headers=headers) as response:
        assert response.status == 200


async def test_nothing_behind_an_offer_is_taken_for_a_request(world: World, agent: Raw) -> None:
    """It could be meant in either protocol, so the connection ends with the answer, and says so."""
    agent.send(post(world, *OFFERS["java"]) + post(world))
    status, headers, _ = await agent.answer()
    assert (status, headers["connection"]) == (200, "close")
    assert await agent.ended()
    assert len([request for request in world.sim.requests if request.method == "POST"]) == 1


@pytest.mark.parametrize("path", ["/api/v1/responses", CHAT, "/api/v1/realtime", "/"])
@pytest.mark.parametrize("offer", ["websocket", "WebSocket", "websocket/13", "h2c, websocket"])
async def test_a_websocket_is_told_to_go_on_by_http(world: World, agent: Raw, path: str, offer: str) -> None:
    """Codex then sends the same request as a POST. Source: RFC 9110, section 15.5.22, for the header."""
    lines = [f"GET {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {world.tokens['a']}"]
    lines += [
        "Connection: Upgrade",
        f"Upgrade: {offer}",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    agent.send("\r\n".join([*lines, "", ""]).encode() + post(world))
    status, headers, body = await agent.answer()
    assert (status, headers["upgrade"]) == (426, "HTTP/1.1")
    assert {each.strip() for each in headers["connection"].lower().split(",")} == {"upgrade", "close"}
    assert is_error(body, 426)
    assert await agent.ended()
    assert world.sim.requests == []


async def test_connect_opens_no_way_out(world: World, agent: Raw) -> None:
    agent.send(b"CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\n\r\n")
    status, _, _ = await agent.answer()
    assert status >= 400


async def test_requests_on_one_connection_are_each_authenticated(world: World, agent: Raw) -> None:
    agent.send(post(world) + post(world, token="pf-another") + post(world))
    assert (await agent.answer())[0] == 200
    assert (await agent.answer())[0] == 401
    assert await agent.ended()  # the rest is not read: what was refused unread must not be taken for a request
    assert len([request for request in world.sim.requests if request.method == "POST"]) == 1


async def test_an_unread_body_is_not_taken_for_the_next_request(world: World, agent: Raw) -> None:
    agent.send(post(world, token="pf-another", body=post(world)))
    assert (await agent.answer())[0] == 401
    assert await agent.ended()
    assert world.sim.requests == []


async def test_an_endless_read_is_not_taken_either(world: World, agent: Raw) -> None:
    agent.send(post(world, path="/api/v1/key", body=post(world)) + post(world))
    assert (await agent.answer())[0] == 404
    assert (await agent.answer())[0] == 200
    assert len([request for request in world.sim.requests if request.method == "POST"]) == 1


async def test_bytes_that_are_no_text_do_not_crash(world: World, agent: Raw) -> None:
    agent.send(
        b"POST /api/v1/chat/completions?\xff%ff HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\r\nContent-Length: 0\r\n\r\n"
    )
    assert (await agent.answer())[0] in (400, 401)


# Base URLs that are one /v1 or one slash off


@pytest.mark.parametrize("base", ["/api", "/api/", "/v1", "/api/v1/v1", "/api/v1/", "//v1", ""])
async def test_a_base_url_one_step_off_is_served_and_upstream_sees_the_right_path(
    world: World, agent: Raw, base: str
) -> None:
    agent.send(post(world, path=f"{base}/chat/completions"))
    assert (await agent.answer())[0] == 200
    assert world.sim.requests[-1].path == "/api/v1/chat/completions"


@pytest.mark.parametrize("base", ["/api/v1", "/v1", "", "/api//v1"])
async def test_anthropics_clients_are_served_by_their_own_steps(world: World, agent: Raw, base: str) -> None:
    agent.send(post(world, path=f"{base}/messages?beta=true"))
    assert (await agent.answer())[0] == 200
    assert world.sim.requests[-1].path == "/api/v1/messages?beta=true"


async def test_a_read_is_served_by_the_same_spellings(world: World) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['a']}"}
    for path in ("/v1/key", "/api/key", "/api/v1/key/", "/api/v1/v1/models"):
        async with world.client.get(world.base_url.removesuffix("/api/v1") + path, headers=headers) as response:
            assert response.status == 200, path


async def test_any_other_base_url_is_answered_with_the_right_one_in_the_clients_form(world: World, agent: Raw) -> None:
    agent.send(post(world, path="/openai/v1/chat/completions"))
    status, _, body = await agent.answer()
    assert (status, is_error(body, 404)) == (404, True)
    assert "/api/v1." in json.loads(body)["error"]["message"]
    agent.send(post(world, path="/anthropic/v1/messages?beta=true"))
    status, _, body = await agent.answer()
    told = json.loads(body)
    assert (status, told["type"], told["error"]["type"]) == (400, "error", "invalid_request_error")
    assert "/api, without /v1." in told["error"]["message"]
    assert world.sim.requests == []


async def test_an_unknown_token_is_told_in_the_form_of_the_client(world: World, agent: Raw) -> None:
    agent.send(post(world, path="/anthropic/v1/messages", token="pf-another"))
    status, _, body = await agent.answer()
    assert (status, json.loads(body)["type"]) == (401, "error")


# Reads without a token


async def test_lists_of_models_and_endpoints_need_no_token(world: World) -> None:
    async with world.client.get(world.base_url + "/models") as response:
        assert response.status == 200
        assert "X-Budget-Limit" not in response.headers
        assert "openai/gpt-4.1-nano" in {model["id"] for model in (await response.json())["data"]}
    path = "/models/openai/gpt-4.1-nano/endpoints"
    async with world.client.get(world.base_url + path) as response:  # upstream was read less than a second ago
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
    async with world.post() as response:  # by which the proxy learns the prices
        assert response.status == 200
    async with world.client.get(world.base_url + path) as response:
        assert response.status == 200
        assert (await response.json())["data"]["endpoints"]


@pytest.mark.parametrize("path", ["/key", "/auth/key", "/credits", "/budget", "/generation?id=gen-1"])
async def test_what_is_an_accounts_own_needs_its_token(world: World, path: str) -> None:
    async with world.client.get(world.base_url + path) as response:
        assert response.status == 401


@pytest.mark.parametrize("headers", [{"Authorization": "Bearer pf-another"}, {"x-api-key": "pf-another"}])
async def test_a_wrong_token_is_told_so_by_the_lists_too(world: World, headers: dict[str, str]) -> None:
    async with world.client.get(world.base_url + "/models", headers=headers) as response:
        assert response.status == 401
