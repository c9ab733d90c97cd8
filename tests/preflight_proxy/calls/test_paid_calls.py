"""The request path, end to end: a client, the proxy, the simulator, real sockets."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from decimal import Decimal
from typing import Any

import aiohttp
import pytest

from openrouter_sim import FaultRule, Rule, Scenario, make_fault
from preflight_proxy.core.refusals.outcomes import NONE_YET
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.server.intake import REQUEST_BYTES_MAX
from tests.support.proxy_world import DEAR_MODEL, MODEL, World, chat

pytestmark = pytest.mark.wire


async def test_a_call_is_answered_and_posted_as_upstream_billed_it(world: World) -> None:
    async with world.post() as response:
        body = await response.json()
    assert response.status == 200
    (line,) = world.cost_lines()
    assert Decimal(line["cost_usd"]) == Decimal(str(body["usage"]["cost"])) == world.billed_usd() > 0
    assert line["outcome"] == "posted"
    assert line["generation_id"] == body["id"] == response.headers["X-Generation-Id"]
    assert line["account"] == "a"
    assert line["prompt_tokens"] == body["usage"]["prompt_tokens"]


async def test_a_stream_arrives_as_upstream_sent_it_and_is_posted_before_its_end(world: World) -> None:
    async with world.post(stream=True, max_tokens=500) as response:
        raw = await response.read()
        posted_pusd = world.proxy.ledger.account("a").posted_pusd
    assert raw.endswith(b"data: [DONE]\n\n")
    assert posted_pusd > 0
    assert response.headers["Content-Type"].startswith("text/event-stream")


async def test_an_answer_carries_the_balance_of_the_moment_its_head_left(world: World) -> None:
    async with world.post() as response:
        assert Decimal(response.headers["X-Budget-Limit"]) == 1
        assert Decimal(response.headers["X-Budget-Available"]) < 1


@pytest.mark.parametrize("stream", [False, True])
async def test_sixty_four_calls_at_once_never_pass_the_limit(world: World, stream: bool) -> None:
    """Each may cost about ten cents; the account has a dollar."""
    await world.open("b", "1.00")
    text = "[[sim tokens=6600]]"

    async def one() -> int:
        async with world.post(
            token=world.tokens["b"], model=DEAR_MODEL, text=text, max_tokens=6600, stream=stream
        ) as response:
            await response.read()
            return response.status

    statuses = await asyncio.gather(*(one() for _ in range(64)))
    await world.settled("b")
    assert world.proxy.ledger.account("b").posted_pusd <= 10**12
    assert Decimal("0.9") < world.billed_usd() <= 1
    assert set(statuses) <= {200, 402, 401}
    assert statuses.count(200) >= 9


async def test_a_refused_call_gets_the_fixed_sentence_and_the_amounts_in_headers(world: World) -> None:
    await world.open("poor", "0.0000001")
    async with world.post(token=world.tokens["poor"], model=DEAR_MODEL) as response:
        body = await response.json()
    assert response.status == 402
    assert body["error"]["code"] == 402
    assert body["error"]["message"] in (Code.SPENT.sentence, Code.DOES_NOT_FIT.sentence)
    assert response.headers["x-should-retry"] == "false"
    assert "Retry-After" not in response.headers
    assert Decimal(response.headers["X-Budget-Limit"]) == Decimal("0.0000001")
    assert Decimal(response.headers["X-Budget-Needed"]) > Decimal("0.0000001")
    assert world.sim.requests == []


async def test_a_call_that_does_not_fit_whole_is_clamped_to_what_does(world: World) -> None:
    await world.open("tight", "0.05")
    async with world.post(
        token=world.tokens["tight"], model=DEAR_MODEL, text="[[sim tokens=60000]]", max_tokens=60000
    ) as response:
        body = await response.json()
    assert response.status == 200
    assert body["choices"][0]["finish_reason"] == "length"
    sent = json.loads(world.sim.requests[-1].body)
    assert sent["max_tokens"] == sent["max_completion_tokens"] < 4000
    assert world.billed_usd() <= Decimal("0.05")


async def test_a_client_that_hangs_up_is_billed_and_its_call_posted(world: World) -> None:
    world.sim.scenario = Scenario(tokens_per_s=400)
    async with world.post(stream=True, text="[[sim tokens=200]]", max_tokens=300) as response:
        await response.content.readany()
        response.close()
    await world.settled()
    assert world.proxy.ledger.account("a").posted_pusd > 0
    (generation,) = next(key for key in world.sim.bill().keys.values() if key.generations).generations
    assert generation.completion_tokens == 200


async def test_a_call_whose_client_leaves_before_the_answer_is_posted(world: World) -> None:
    world.sim.scenario = Scenario(first_token_s=0.3)

    async def ask() -> None:
        async with world.post() as response:
            await response.read()

    leaving = asyncio.ensure_future(ask())
    await world.sim.until(lambda: len(world.sim.requests) == 1)
    leaving.cancel()
    await asyncio.wait([leaving])
    await world.settled()
    assert world.proxy.ledger.account("a").posted_pusd > 0


async def test_a_body_whose_client_left_takes_memory_until_the_call_is_drained(world: World) -> None:
    world.sim.scenario = Scenario(tokens_per_s=400)
    async with world.post(stream=True, text="[[sim tokens=200]]", max_tokens=300) as response:
        await response.content.readany()
        held_bytes = world.proxy.intake.bodies_bytes
        response.close()
    assert held_bytes > 0
    while world.proxy.ledger.account("a").pending_pusd:
        assert world.proxy.intake.bodies_bytes == held_bytes
        await asyncio.sleep(0.01)
    await world.proxy.tasks.finish(20.0)
    assert world.proxy.intake.bodies_bytes == 0


async def test_an_unknown_token_is_a_401_in_openrouters_shape(world: World) -> None:
    async with world.post(token="pf-nobody") as response:
        assert response.status == 401
        assert (await response.json())["error"]["code"] == 401


async def test_two_authorizations_are_none(world: World) -> None:
    headers = [("Authorization", f"Bearer {world.tokens['a']}")] * 2
    async with world.client.post(world.base_url + "/chat/completions", json=chat(), headers=headers) as response:
        assert response.status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/chat/completions//",
        "/chat/../keys",
        "/chat%2fcompletions",
        "///chat/completions",
        "/keys",
        "/activity",
    ],
)
async def test_a_path_that_is_not_served_is_a_404_and_reaches_nobody(world: World, path: str) -> None:
    status, _ = await raw_request(world, "POST", "/api/v1" + path, json.dumps(chat()).encode())
    assert status == 404
    assert world.sim.requests == []


async def test_an_absolute_target_is_not_served(world: World) -> None:
    status, _ = await raw_request(world, "POST", world.sim.base_url + "/chat/completions", json.dumps(chat()).encode())
    assert status in (400, 404)
    assert world.sim.requests == []


async def test_a_body_over_the_cap_is_a_413(world: World) -> None:
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.tokens['a']}\r\n"
    status, body = await raw_bytes(world, head.encode() + b"Content-Length: 104857600\r\n\r\n")
    assert status == 413
    assert json.loads(body)["error"]["code"] == 413


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"model":1}', b"\xff\xfe", b"{" * 100_000, b'{"a":' + b"[" * 100_000]
)
async def test_a_body_that_is_no_request_is_a_400(world: World, body: bytes) -> None:
    status, answer = await raw_request(world, "POST", "/api/v1/chat/completions", body)
    assert status == 400
    assert json.loads(answer)["error"]["code"] == 400
    assert world.sim.requests == []


async def test_an_upstream_that_cannot_be_reached_is_a_502_and_nothing_is_charged(world: World) -> None:
    async with world.post() as response:
        await response.read()
    before_pusd = world.proxy.ledger.account("a").posted_pusd
    await world.sim.stop()
    async with world.post() as response:
        assert response.status == 502
        assert (await response.json())["error"]["code"] == 502
    account = world.proxy.ledger.account("a")
    assert (account.posted_pusd, account.pending_pusd) == (before_pusd, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"plugins": [{"id": "web"}]},
        {"models": [MODEL, DEAR_MODEL]},
        {"n": 2},
        {"tools": [{"type": "openrouter:web_search"}]},
        {"tools": [{"type": "web_search_preview"}]},
        {"preset": "p"},
        {"model": "@preset/p"},
        {"model": "openrouter/auto"},
    ],
)
async def test_a_field_that_may_cost_more_than_it_shows_is_refused(world: World, fields: dict[str, Any]) -> None:
    async with world.post(**fields) as response:
        assert response.status in (400, 403)
        assert "error" in await response.json()
    assert world.sim.requests == []


def causes(world: World, name: str = "a") -> list[tuple[str, int]]:
    """What an account's calls were not served for, and how often each."""
    return [(cause.code, cause.count) for cause in world.proxy.ledger.account(name).outcomes.causes]


async def test_a_request_that_is_refused_for_its_content_is_counted_with_its_own_sentence(world: World) -> None:
    for _ in range(2):
        async with world.post(plugins=[{"id": "web"}]) as response:
            message = (await response.json())["error"]["message"]
    async with world.post(n=2) as response:
        assert response.status == 400
    account = world.proxy.ledger.account("a")
    assert causes(world) == [("bad_request", 2), ("bad_request", 1)]
    assert account.outcomes.causes[0].text == message
    assert (account.refused, account.outcomes.served) == (3, 0)


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"model": "nobody/nothing"}, "unpriced"), ({"text": "x" * 100_000, "model": DEAR_MODEL}, "does_not_fit")],
)
async def test_each_refusal_of_ours_is_counted_by_its_code(world: World, fields: dict[str, Any], code: str) -> None:
    await world.open("poor", "0.05")
    async with world.post(token=world.tokens["poor"], **fields) as response:
        await response.read()
    assert causes(world, "poor") == [(code, 1)]
    assert world.proxy.ledger.account("poor").outcomes.causes[0].model == fields["model"]


async def test_a_body_that_is_not_taken_and_a_path_that_is_not_served_are_counted(world: World) -> None:
    await raw_request(world, "POST", "/api/v1/chat/completions", b"{")
    await raw_request(world, "POST", "/v1/chat/completions", b"{}")
    head = f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.tokens['a']}\r\n"
    await raw_bytes(world, head.encode() + b"Content-Length: 104857600\r\n\r\n")
    assert causes(world) == [("bad_request", 1)] * 3


async def test_a_question_that_costs_nothing_is_no_call(world: World) -> None:
    for path in ("/models", "/key", "/nothing"):
        await raw_request(world, "GET", "/api/v1" + path, b"")
    assert world.proxy.ledger.account("a").outcomes == NONE_YET


async def test_a_client_that_hangs_up_while_its_call_waits_is_counted(world: World) -> None:
    await world.open("one", "0.05")
    world.sim.scenario = Scenario(first_token_s=3.0, replies=(Rule(tokens=20),))

    async def ask() -> None:
        async with world.post(token=world.tokens["one"], model=DEAR_MODEL, max_tokens=2500) as response:
            await response.read()

    first = asyncio.ensure_future(ask())
    await world.sim.until(lambda: len(world.sim.requests) == 1)
    second = asyncio.ensure_future(ask())
    async with asyncio.timeout(30):
        while not world.proxy.ledger.waiting_calls.has("one"):
            await asyncio.sleep(0.01)
    second.cancel()
    await first
    async with asyncio.timeout(30):
        while not causes(world, "one"):
            await asyncio.sleep(0.01)
    assert (causes(world, "one"), world.proxy.ledger.account("one").outcomes.served) == ([("left", 1)], 1)


async def test_an_unknown_field_does_not_reach_upstream_and_is_named(world: World) -> None:
    async with world.post(brand_new_field=1) as response:
        assert response.status == 200
        assert response.headers["X-Preflight-Dropped"] == "brand_new_field"
    assert b"brand_new_field" not in world.sim.requests[-1].body


async def test_a_model_that_is_not_pinned_is_a_403_that_says_which_are(world: World) -> None:
    await world.open("pinned", models=[MODEL])
    async with world.post(token=world.tokens["pinned"], model=DEAR_MODEL) as response:
        assert response.status == 403
        assert MODEL in (await response.json())["error"]["message"]


async def test_a_model_nobody_prices_is_refused(world: World) -> None:
    async with world.post(model="nobody/nothing") as response:
        assert response.status == 403
    assert world.sim.requests == []


@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/messages"])
async def test_a_model_named_as_litellm_names_it_is_served_and_leaves_as_openrouter_knows_it(
    world: World, path: str
) -> None:
    async with world.post(path, model=f"openrouter/{MODEL}", max_tokens=100, input="Say OK") as response:
        assert response.status == 200
        await response.read()
    assert json.loads(world.sim.requests[-1].body)["model"] == MODEL
    for router in ("openrouter/auto", "openrouter/openrouter/auto"):
        async with world.post(path, model=router, max_tokens=100, input="Say OK") as refused:
            assert refused.status == 400
    assert len(world.sim.requests) == 1


@pytest.mark.parametrize("escaped", [False, True])
async def test_the_real_key_never_comes_back(world: World, escaped: bool) -> None:
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("echo_key", {"escaped": escaped})),))
    world.may_differ = True
    async with world.post() as response:
        text = await response.text() + str(response.headers)
    assert "sk-or-" not in text
    assert "\\u00" not in text
    key = world.proxy.ledger.account_state("a").key
    assert key is not None
    assert key.reveal() not in (world.data / "costs.jsonl").read_text()


async def test_freezing_refuses_and_ends_running_streams_in_their_own_terms(world: World) -> None:
    world.sim.scenario = Scenario(tokens_per_s=50)
    async with world.post(stream=True, text="[[sim tokens=100]]", max_tokens=100) as response:
        await response.content.readany()
        await world.proxy.accounts.freeze("a", "test")
        rest = await response.content.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert Code.FROZEN.sentence.encode() in rest
    async with world.post() as refused:
        assert refused.status in (401, 402)
    await world.settled()


FREE_MODEL = "meta-llama/llama-3.3-70b-instruct:free"


async def send(world: World, body: bytes, path: str = "/chat/completions") -> tuple[int, dict[str, Any]]:
    """Send a body as it stands; status and answer."""
    headers = {"Authorization": f"Bearer {world.tokens['a']}"}
    async with world.client.post(world.base_url + path, data=io.BytesIO(body), headers=headers) as response:
        return response.status, await response.json()


async def left(world: World, pusd: int) -> None:
    """Have one call posted, and the limit at so much above what is posted."""
    async with world.post() as response:
        await response.read()
    world.proxy.accounts.set_limit("a", world.proxy.ledger.account("a").posted_pusd + pusd)


async def test_a_frozen_account_is_refused_before_its_body_is_parsed(world: World) -> None:
    await world.proxy.accounts.freeze("a", "test")
    status, answer = await send(world, b"no JSON at all")
    assert (status, answer["error"]["message"]) == (402, Code.FROZEN.sentence)
    assert world.proxy.ledger.account("a").refused == 1
    too_large = b"x" * (REQUEST_BYTES_MAX + 1)
    assert (await send(world, too_large))[0] == 413
    world.proxy.accounts.unfreeze("a")
    assert (await send(world, b"no JSON at all"))[0] == 400


async def test_an_account_below_zero_is_refused_before_its_body_is_parsed(world: World) -> None:
    await left(world, -1)
    status, answer = await send(world, b"no JSON at all")
    assert (status, answer["error"]["message"]) == (402, Code.SPENT.sentence)
    async with world.post(model=FREE_MODEL) as response:
        assert response.status in (401, 402)


async def test_at_exactly_zero_a_free_model_is_served_and_others_are_not(world: World) -> None:
    await left(world, 0)
    async with world.post(model=FREE_MODEL) as response:
        assert response.status == 200
    assert (await send(world, b"no JSON at all"))[0] == 400
    async with world.post() as response:
        assert response.status in (401, 402)


@pytest.mark.parametrize(("path", "escalated"), [("/chat/completions", 401), ("/responses", 400), ("/messages", 402)])
async def test_a_body_that_is_refused_unparsed_again_escalates(world: World, path: str, escalated: int) -> None:
    """Also where a client labels each try anew, in another order, as Codex does; another body is told in the mild word."""
    await world.proxy.accounts.freeze("a", "test")
    first = {"model": MODEL, "input": "a", "client_metadata": {"try": 1}, "user": "one"}
    again = {"user": "two", "client_metadata": {"try": 2}, "input": "a", "model": MODEL}
    other = {**again, "input": "b"}
    statuses = [(await send(world, json.dumps(body).encode(), path))[0] for body in (first, other, again)]
    assert statuses == [402, 402, escalated]
    large = [b"x" * (2**21 + 1), b"y" * (2**21 + 1), b"x" * (2**21 + 1)]
    assert [(await send(world, body, path))[0] for body in large] == [402, 402, escalated]


async def test_a_waiting_call_is_served_when_others_settle(world: World) -> None:
    """Two calls that do not fit together both succeed: the second waits for the first to settle."""
    await world.open("one", "0.05")
    world.sim.scenario = Scenario(first_token_s=0.2, replies=(Rule(tokens=20),))

    async def one() -> int:
        async with world.post(token=world.tokens["one"], model=DEAR_MODEL, max_tokens=1500) as response:
            await response.read()
            return response.status

    assert list(await asyncio.gather(one(), one(), one())) == [200, 200, 200]
    assert len(world.sim.requests) == 3


async def test_budget_files_follow_the_balance(world: World) -> None:
    path = world.data / "budget.txt"
    await world.open("c", "0.50", budget_file=str(path))
    async with asyncio.timeout(60):
        while not path.exists():
            await asyncio.sleep(0.01)
    assert path.read_text() == "Budget: $0.500 remaining of $0.50 (100% left)\n"
    async with world.post(token=world.tokens["c"], model=DEAR_MODEL, text="[[sim tokens=4000]]", max_tokens=4000) as r:
        await r.read()
    async with asyncio.timeout(60):
        while "100%" in path.read_text():
            await asyncio.sleep(0.01)
    assert path.read_text().startswith("Budget: $0.4")


async def raw_request(world: World, method: str, target: str, body: bytes) -> tuple[int, bytes]:
    """Send a request target as it stands, which no client library does."""
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {world.tokens['a']}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return await raw_bytes(world, head.encode() + body)


async def raw_bytes(world: World, sent: bytes) -> tuple[int, bytes]:
    """Send bytes, read until the answer is whole."""
    host, port = world.base_url.removeprefix("http://").partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port), family=socket.AF_INET)
    try:
        writer.write(sent)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
        )
        return int(head.split(b" ")[1]), await reader.readexactly(length)
    finally:
        writer.close()


async def test_any_chunking_gives_the_same_bytes_as_the_simulator_alone(world: World) -> None:
    text = "[[sim tokens=40 text='one two three four five six seven eight nine ten']]"
    world.sim.scenario = Scenario(faults=(FaultRule(make_fault("chop")),))
    async with world.post(stream=True, text=text) as response:
        through = await response.read()
    assert response.status == 200
    assert through.count(b"data: ") >= 3
    assert isinstance(response, aiohttp.ClientResponse)


# What fits


async def test_a_refused_call_is_admitted_with_exactly_what_its_refusal_says(world: World) -> None:
    """Counted by its estimate: by its bytes it would need several times as much."""
    text = "Read the plan of this house, and say what is wrong with it. " * 500
    await world.open("poor", "0.01")
    async with world.post(token=world.tokens["poor"], model=DEAR_MODEL, text=text, max_tokens=4000) as response:
        needed = Decimal(response.headers["X-Budget-Needed"])
        assert response.status == 402
    assert Decimal("0.01") < needed < Decimal("0.05")
    for name, limit, status in (("less", needed - Decimal("1e-12"), 402), ("enough", needed, 200)):
        await world.open(name, f"{limit:f}")
        async with world.post(token=world.tokens[name], model=DEAR_MODEL, text=text, max_tokens=4000) as response:
            assert response.status == status


async def test_a_new_prompt_of_the_size_that_fits_is_admitted(world: World) -> None:
    """Its size is that of `count_tokens`; a refusal says it, and every answer after a first call."""
    await world.open("b", "0.05")
    async with world.post(
        token=world.tokens["b"], model=DEAR_MODEL, text="long " * 60_000, max_tokens=1024
    ) as response:
        fits = int(response.headers["X-Budget-Fits-Tokens"])
        assert response.status == 402
    assert 5_000 < fits < 12_000

    async def count(text: str) -> int:
        body, headers = chat(text, model=DEAR_MODEL), {"x-api-key": world.tokens["b"]}
        url = world.base_url + "/messages/count_tokens"
        async with world.client.post(url, json=body, headers=headers) as response:
            return int((await response.json())["input_tokens"])

    words = fits * 1000 // (await count("long " * 1000))
    while await count("long " * words) > fits:
        words -= 10
    async with world.post(token=world.tokens["b"], model=DEAR_MODEL, text="long " * words, max_tokens=1024) as response:
        assert response.status == 200
        assert int(response.headers["X-Budget-Fits-Tokens"]) < fits
