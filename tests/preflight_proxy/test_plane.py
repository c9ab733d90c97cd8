"""Who asks, and for what: tokens, exact paths, and the parts of HTTP that a proxy must not guess about."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.plane import TOKEN_CHARS_MAX, hash_token
from tests.preflight_proxy.raw_http import Raw, is_error
from tests.preflight_proxy.world import World, chat

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
async def test_without_exactly_one_known_token_nothing_is_told(
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
    key = world.proxy.books.live("a").key
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
        assert response.status == 404
    assert world.sim.requests == []


@pytest.mark.parametrize(
    "path", ["/", "/api", "/api/v1", "/v1/key", "/api/v2/key", "/api/v1/", "/api/v1/Key", "/api/v1/key/"]
)
async def test_what_is_not_served_is_a_404(world: World, path: str) -> None:
    headers = {"Authorization": f"Bearer {world.tokens['a']}"}
    async with world.client.get(world.base_url.removesuffix("/api/v1") + path, headers=headers) as response:
        assert response.status == 404
        assert is_error(await response.read(), 404)


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/api/v1/"])
async def test_a_look_whether_somebody_is_there_is_answered(world: World, path: str) -> None:
    async with world.client.head(world.base_url.removesuffix("/api/v1") + path) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    ("query", "arrives"), [("", ""), ("?", ""), ("?beta=true", "?beta=true"), ("?beta=false", ""), ("?provider=x", "")]
)
async def test_only_a_known_query_goes_upstream(world: World, agent: Raw, query: str, arrives: str) -> None:
    agent.send(post(world, path=CHAT + query))
    assert (await agent.answer())[0] == 200
    assert world.sim.requests[-1].path.removeprefix("/api/v1") == "/chat/completions" + arrives


# HTTP


async def test_a_client_that_expects_to_be_told_to_go_on_is(world: World, agent: Raw) -> None:
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


@pytest.mark.parametrize("protocol", ["websocket", "h2c", "TLS/1.0"])
async def test_nothing_is_upgraded_and_nothing_after_it_is_read(world: World, agent: Raw, protocol: str) -> None:
    agent.send(post(world, "Connection: Upgrade", f"Upgrade: {protocol}") + post(world))
    status, _, body = await agent.answer()
    assert (status, is_error(body, 400)) == (400, True)
    assert await agent.ended()
    assert world.sim.requests == []


async def test_connect_opens_no_way_out(world: World, agent: Raw) -> None:
    agent.send(b"CONNECT openrouter.ai:443 HTTP/1.1\r\nHost: openrouter.ai:443\r\n\r\n")
    status, _, _ = await agent.answer()
    assert status >= 400


async def test_requests_on_one_connection_are_each_proven(world: World, agent: Raw) -> None:
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
