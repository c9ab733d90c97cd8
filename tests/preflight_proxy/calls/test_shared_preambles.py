"""Preambles that runs know from one another's bills: real proxies, one after another and at once, on one file of counts."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from msgspec.structs import replace

from openrouter_sim import FaultRule, Rule, Scenario, Simulator, make_fault
from openrouter_sim.base.tokens import Tokenizer
from preflight_proxy.app import running
from preflight_proxy.base.config import StandaloneConfig
from preflight_proxy.calls import weighing
from preflight_proxy.calls.quoting import CallContext, Caller, _digest
from preflight_proxy.core.pricing.calibration import preamble_bytes, system_count
from preflight_proxy.core.shapes.shape import Request
from preflight_proxy.ledger import shared_counts
from preflight_proxy.ledger.shared_counts import SharedCounts
from preflight_proxy.standalone import config_of
from tests.support.proxy_process import Child
from tests.support.proxy_world import DEAR_MODEL, World, quick_config
from tests.support.quote_cases import CHAT, MESSAGES, RESPONSES, endpoint, read

ENDPOINT = endpoint()
PROSE = "read the plan of the house, then say what is missing. "
CODE = "run: `make -C src/x_y all`; if (a[i] != 0) { return -1; } // see #42\n"
SYSTEM = (PROSE + CODE) * 200
"""24.6 kB, estimated at 0.52 tokens a byte, margin included, and counted as 0.25 by `Tokenizer.USUAL`."""
NOTES_USD, MISSES_USD = "0.05", "0.03"
"""With the first the prompt is admitted by its estimate, and noted. With the second it fits only if its count is known."""
VERSION = {"anthropic-version": "2023-06-01"}
AFTER_S_MAX = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "token_counts.sqlite3"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are written and read without delay, and a proxy that serves has read them, or has failed to."""
    monkeypatch.setattr(shared_counts, "GATHER_S", 0.0)
    monkeypatch.setattr(shared_counts, "SHARED_LOOK_S", 0.02)
    begin = SharedCounts.begin

    def begin_and_wait(counts: SharedCounts) -> None:
        begin(counts)
        if (file := counts._file) is not None:
            until_s = time.monotonic() + AFTER_S_MAX
            while counts._known._key != file.key and not file._failures:
                assert time.monotonic() < until_s
                time.sleep(0.005)

    monkeypatch.setattr(SharedCounts, "begin", begin_and_wait)


@asynccontextmanager
async def run(
    sim: Simulator, path: Path, name: str, limit_usd: str = NOTES_USD, **settings: Any
) -> AsyncIterator[World]:
    """One run of the user's, with one account."""
    config = quick_config(path.parent.parent / name, sim.base_url, shared_counts_file=str(path), run=name)
    async with (
        running(replace(config, weigh=False, share_preambles=True, **settings)) as proxy,
        aiohttp.ClientSession() as client,
    ):
        world = World(sim, proxy, client, config.data_dir)
        key = await world.sub_key(name)
        await world.reopen("a", key, limit_usd)
        yield world


def in_chat(task: str) -> tuple[str, dict[str, Any]]:
    return "/chat/completions", {"messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": task}]}


def in_messages(task: str) -> tuple[str, dict[str, Any]]:
    return "/messages", {"system": SYSTEM, "messages": [{"role": "user", "content": task}]}


def in_responses(task: str) -> tuple[str, dict[str, Any]]:
    half = len(SYSTEM) // 2
    developer = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": SYSTEM[half:]}]}
    user = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": task}]}
    return "/responses", {"instructions": SYSTEM[:half], "input": [developer, user]}


Api = Callable[[str], tuple[str, dict[str, Any]]]
APIS: tuple[Api, ...] = (in_chat, in_messages, in_responses)


async def call(world: World, task: str = "go", api: Api = in_chat, name: str = "a") -> int:
    """Send the preamble and a task; return the status."""
    path, body = api(task)
    bound = {"max_output_tokens" if path == "/responses" else "max_tokens": 16}
    body = {"model": DEAR_MODEL, "provider": {"only": ["anthropic"]}, **bound, **body}
    headers = {"Authorization": f"Bearer {world.tokens[name]}", **VERSION}
    async with world.client.post(world.base_url + path, json=body, headers=headers) as response:
        await response.read()
        return response.status


async def noted(sim: Simulator, path: Path, *names: str, api: Api = in_chat) -> None:
    """Let runs be billed for the preamble, one after another."""
    for name in names:
        async with run(sim, path, name) as world:
            assert await call(world, f"I am {name}", api) == 200


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def rows(path: Path, table: str = "preambles") -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


@pytest.mark.wire
@pytest.mark.parametrize("api", APIS)
async def test_a_third_run_is_admitted_by_what_two_others_were_billed(path: Path, api: Api) -> None:
    async with Simulator() as sim:
        async with run(sim, path, "before", MISSES_USD) as world:
            assert await call(world, api=api) == 402
        await noted(sim, path, "one", "two", api=api)
        assert rows(path) == 2
        async with run(sim, path, "three", MISSES_USD) as world:
            assert await call(world, CODE * 200, api) == 402  # what is new counts as ever
            assert await call(world, api=api) == 200
            account = world.proxy.ledger.account("a")
            assert account.overrun_pusd == 0
        async with run(sim, path, "proven", MISSES_USD, bound="proven") as world:
            assert await call(world, api=api) == 402


@pytest.mark.wire
async def test_two_runs_at_once_let_a_third_one_know_that_runs_beside_them(path: Path) -> None:
    async with (
        Simulator() as sim,
        run(sim, path, "three", MISSES_USD) as third,
        run(sim, path, "one") as one,
        run(sim, path, "two") as two,
    ):
        assert await call(third) == 402
        answers = await asyncio.gather(call(one, "one"), call(two, "two"), call(one, "eins"))
        assert set(answers) == {200}
        async with asyncio.timeout(AFTER_S_MAX):
            while await call(third) != 200:
                await asyncio.sleep(0.01)
        assert third.proxy.ledger.account("a").overrun_pusd == 0


@pytest.mark.wire
@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM preambles WHERE rowid = 1",
        "UPDATE preambles SET tokens = tokens * 102 / 100 WHERE rowid = 1",
        "UPDATE preambles SET at_s = at_s - 30 * 86400",
        "UPDATE preambles SET upstream = 'https://elsewhere.example'",
    ],
    ids=["one run alone", "no agreement", "old", "another upstream"],
)
async def test_what_two_runs_of_late_do_not_agree_on_changes_nothing(path: Path, statement: str) -> None:
    async with Simulator() as sim:
        await noted(sim, path, "one", "two")
        change(path, statement)
        async with run(sim, path, "three", MISSES_USD) as world:
            assert await call(world) == 402


@pytest.mark.wire
async def test_one_run_s_many_accounts_and_restarts_are_one_run(path: Path) -> None:
    async with Simulator() as sim:
        for name in ("b", "c"):
            async with run(sim, path, "one", "0.1") as world:
                await world.reopen(name, await world.sub_key(name), NOTES_USD)
                assert await call(world, name=name) == 200
                assert await call(world) == 200
        assert rows(path) == 1
        async with run(sim, path, "three", MISSES_USD) as world:
            assert await call(world) == 402


@pytest.mark.wire
@pytest.mark.parametrize(
    ("system", "shared"), [(PROSE * 76, 1), (PROSE * 75, 0), (CODE * 300, 0)], ids=["4.1 kB", "4.05 kB", "billed low"]
)
async def test_a_preamble_is_noted_from_4096_bytes_on_if_its_bill_is_half_its_estimate(
    path: Path, system: str, shared: int
) -> None:
    def api(task: str) -> tuple[str, dict[str, Any]]:
        return "/messages", {"system": system, "messages": [{"role": "user", "content": task}]}

    async with Simulator() as sim, run(sim, path, "one", "0.08" if len(system) > 5000 else "0.01") as world:
        assert await call(world, api=api) == 200
    assert rows(path) == shared


@pytest.mark.wire
async def test_a_user_s_message_is_never_a_preamble(path: Path) -> None:
    """However long it is, and although a conversation begins with it."""

    def api(task: str) -> tuple[str, dict[str, Any]]:
        return "/messages", {"messages": [{"role": "user", "content": SYSTEM}, {"role": "user", "content": task}]}

    async with Simulator() as sim:
        async with run(sim, path, "one") as world:
            assert await call(world, api=api) == 200
        assert rows(path) == 0


@pytest.mark.wire
async def test_an_overrun_that_was_quoted_from_a_row_deletes_it_and_the_account_counts_bytes(path: Path) -> None:
    async with Simulator() as sim:
        await noted(sim, path, "one", "two")
        sim.scenario = Scenario(tokenizer=Tokenizer.DENSE)
        async with run(sim, path, "three", MISSES_USD) as world:
            assert await call(world) == 200
            account = world.proxy.ledger.account("a")
            assert account.overrun_pusd > 0
            assert account.byte_counted == (f"{DEAR_MODEL} anthropic",)
            assert world.proxy.ledger.store.state.quarantined == {}
            assert await call(world, "again") == 402
        assert rows(path) == 0
        async with run(sim, path, "four", MISSES_USD) as world:
            assert await call(world) == 402


@pytest.mark.wire
async def test_an_overrun_that_was_reserved_by_bytes_deletes_no_row(path: Path) -> None:
    """The row had no part in it."""
    async with Simulator() as sim:
        await noted(sim, path, "one", "two")
        sim.scenario = Scenario(faults=(FaultRule(make_fault("price_rise", {"factor": 10})),))
        async with run(sim, path, "rich", "1") as world:
            assert await call(world) == 200
            assert world.proxy.ledger.account("a").overrun_pusd > 0
        assert rows(path) == 2


@pytest.mark.wire
async def test_what_an_endpoint_counted_too_much_is_known_to_the_whole_run_and_after_a_restart(path: Path) -> None:
    """And not to another run, as long as it is the only one that saw it."""
    async with Simulator(Scenario(tokenizer=Tokenizer.DENSE)) as sim:
        async with run(sim, path, "one") as world:
            assert await call(world) == 200
            assert world.proxy.ledger.account("a").overrun_pusd > 0
            await world.reopen("b", await world.sub_key("b"), NOTES_USD)
            assert await call(world, name="b") == 402
        async with run(sim, path, "one") as world:
            await world.reopen("c", await world.sub_key("c"), NOTES_USD)
            assert await call(world, name="c") == 402
        async with run(sim, path, "two") as world:
            assert await call(world) == 200
        async with run(sim, path, "three") as world:
            assert await call(world) == 402


@pytest.mark.wire
async def test_without_a_file_each_account_learns_from_its_own_bills_alone(tmp_path: Path, path: Path) -> None:
    async with (
        Simulator(Scenario(tokenizer=Tokenizer.DENSE)) as sim,
        run(sim, path, "one", shared_counts_file=None) as world,
    ):
        assert await call(world) == 200
        assert await call(world) == 402
        await world.reopen("b", await world.sub_key("b"), NOTES_USD)
        assert await call(world, name="b") == 200
    assert not path.parent.exists()


def damaged(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)


def unwritable(path: Path) -> None:
    path.parent.rename(path.parent.with_name("before"))
    path.parent.write_text("a file where the folder should be")


def without_its_key(path: Path) -> None:
    path.with_suffix(".key").write_bytes(b"short")


@pytest.mark.wire
@pytest.mark.parametrize("spoil", [damaged, unwritable, without_its_key])
async def test_a_file_that_cannot_be_used_costs_a_line_in_the_log_and_no_call(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    async with Simulator() as sim:
        await noted(sim, path, "one", "two")
        spoil(path)
        with structlog.testing.capture_logs() as log:
            async with run(sim, path, "three") as world:
                assert await call(world) == 200
                assert await call(world, "again") == 200
        assert len([line for line in log if line["event"] == "shared_counts.failed"]) == 1
        async with run(sim, path, "four", MISSES_USD) as world:
            assert await call(world) == 402


@pytest.mark.wire
async def test_a_proxy_that_is_killed_keeps_what_it_had_noted_and_locks_no_other_out(tmp_path: Path) -> None:
    """A stand-alone proxy, with the option."""
    place = tmp_path / "killed"
    path = place / "state" / "agent-preflight" / "token_counts.sqlite3"
    async with Simulator() as sim, aiohttp.ClientSession() as client:
        place.mkdir()
        await noted(sim, path, "one")
        options = {
            "listen": "127.0.0.1:0",
            "upstream": sim.base_url,
            "data": place / "data",
            "account": f"a={NOTES_USD}",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        ready_file = place / "ready.json"
        words += [f"--ready-file={ready_file}", "--share-preambles", "--no-weigh"]
        command = ["-m", "agent_preflight", "proxy", *words]
        async with Child(command, {}, ready_file, place, sim.inference_key) as child:
            _, body = in_chat("go")
            body = {"model": DEAR_MODEL, "provider": {"only": ["anthropic"]}, "max_tokens": 16, **body}
            headers = {"Authorization": f"Bearer {child.ready['api_key']}", **VERSION}
            async with client.post(
                child.ready["base_url"] + "/chat/completions", json=body, headers=headers
            ) as response:
                assert response.status == 200, await response.text()
            async with asyncio.timeout(AFTER_S_MAX):
                while rows(path) < 2:
                    await asyncio.sleep(0.01)
            assert await child.stop(signal.SIGKILL) == -signal.SIGKILL
        async with run(sim, path, "three", MISSES_USD) as world:
            assert await call(world) == 200


# What accounts of a stand-alone proxy learn from one another


TASKS = ("go", "count: " + "7 " * 2000, "\u0e01\u0e32\u0e23" * 700)


async def seen(world: World) -> list[tuple[int, list[tuple[str, str]], bytes]]:
    """Return what account b gets for each API, some tasks and some budgets, without what differs with each call."""
    answers: list[tuple[int, list[tuple[str, str]], bytes]] = []
    for limit_usd in ("0.0001", "0.02", "0.045", "0.09"):
        for task in TASKS:
            for api in APIS:
                name = f"b-{len(answers)}"
                await world.open_foreign(name, limit_usd)
                path, body = api(task)
                bound = {"max_output_tokens" if path == "/responses" else "max_tokens": 16}
                body = {"model": DEAR_MODEL, "provider": {"only": ["anthropic"]}, **bound, **body}
                headers = {"Authorization": f"Bearer {world.tokens[name]}", **VERSION}
                async with world.client.post(world.base_url + path, json=body, headers=headers) as response:
                    text, status = await response.read(), response.status
                    said = [(key, value) for key, value in response.headers.items() if key not in UNLIKE]
                answers.append((status, said, b"" if status == 200 else text.replace(name.encode(), b"b")))
                async with world.client.get(world.base_url + "/key", headers=headers) as response:
                    answers.append((response.status, [], (await response.read()).replace(name.encode(), b"b")))
    counted = {"model": DEAR_MODEL, **in_messages(TASKS[1])[1]}
    async with world.client.post(world.base_url + "/messages/count_tokens", json=counted, headers=headers) as response:
        assert response.status == 200
        answers.append((response.status, [], await response.read()))
    return answers


UNLIKE = ("Date", "X-Generation-Id", "Content-Length")


async def spend(world: World) -> None:
    """Do what an account can do to learn or to teach: the same preamble, short, huge and dense."""
    for name, limit_usd in (("a", "5"), ("a-poor", NOTES_USD), ("a-poorer", "0.04"), ("a-spent", "0.001")):
        await world.open_foreign(name, limit_usd)
        for task in (*TASKS, "go", "\U0001d160" * 500, CODE * 400, "qzxj" * 3000):
            for api in APIS:
                await call(world, task, api, name)


@pytest.mark.wire
@pytest.mark.parametrize("tokenizer", [Tokenizer.USUAL, Tokenizer.DENSE])
async def test_whatever_an_account_sends_another_one_sees_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: Tokenizer
) -> None:
    """Every status, header and refusal of account b is the same, byte for byte, whether or not account a calls before it."""

    class Foreseen:
        def randrange(self, _below: int) -> int:
            return 0  # which slices are weighed must not differ

    monkeypatch.setattr(weighing, "SystemRandom", Foreseen)
    saw = []
    for is_called in (False, True):
        folder = tmp_path / str(is_called)
        path = folder / "state" / "token_counts.sqlite3"
        async with (
            Simulator(Scenario(tokenizer=tokenizer, replies=(Rule(tokens=16),))) as sim,
            aiohttp.ClientSession() as client,
        ):
            for api in APIS:  # a run of the user's was billed for the preamble
                await noted(sim, path, f"one-{api.__name__}", api=api)
            counted = [rows(path, table) for table in ("preambles", "factors")]
            settings = StandaloneConfig(data=str(folder / "data"), upstream=sim.base_url, listen="127.0.0.1:0")
            config = config_of(settings, folder / "data", folder / "control.sock")
            async with running(replace(config, shared_counts_file=str(path), quarantine_file=None)) as proxy:
                world = World(sim, proxy, client, folder / "data")
                if is_called:
                    await spend(world)
                saw.append(await seen(world))
            assert [rows(path, table) for table in ("preambles", "factors")] == counted
    assert {status for status, _said, _text in saw[0]} == {200, 402}
    for before, after in zip(*saw, strict=True):
        assert after == before


# What a preamble is, and what its name depends on


def named(request: Request, headers: Sequence[tuple[str, str]] = (), query: str = "", tag: str = "anthropic") -> bytes:
    context = CallContext(Caller("a", "hash", CHAT, query), request, headers, False, 0.0)
    return _digest(context, replace(ENDPOINT, tag=tag))


def asked(task: str = "go", **fields: Any) -> Request:
    return read(MESSAGES, {"model": DEAR_MODEL, "max_tokens": 16, **in_messages(task)[1], **fields})


def test_a_preamble_s_name_has_nothing_of_the_user_s_messages_nor_of_what_decides_neither_tokens_nor_price() -> None:
    name = named(asked())
    assert named(asked("another task" * 100)) == name
    assert named(asked(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])) == name
    more: dict[str, Any] = {
        "temperature": 0.5,
        "max_tokens": 99,
        "stream": True,
        "metadata": {"user_id": "u"},
        "stop_sequences": ["x"],
    }
    assert named(asked(**more)) == name
    assert named(asked(), [("X-Title", "t"), ("Authorization", "Bearer x")]) == name


@pytest.mark.parametrize(
    "fields",
    [
        {"system": SYSTEM + "!"},
        {"tools": [{"name": "f", "input_schema": {"type": "object"}}]},
        {"tool_choice": {"type": "none"}},
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        {"service_tier": "standard_only"},
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"provider": {"require_parameters": True}},
        {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "go"}]},
    ],
    ids=str,
)
def test_a_preamble_s_name_depends_on_each_field_that_decides_price_or_tokens(fields: dict[str, Any]) -> None:
    assert named(asked(**fields)) != named(asked())


def test_a_preamble_s_name_depends_on_anthropic_s_headers_the_query_the_endpoint_and_the_api() -> None:
    in_two_apis = [read(shape, {"model": DEAR_MODEL, **in_chat("go")[1]}) for shape in (CHAT, MESSAGES)]
    names = {
        named(asked()),
        named(asked(), [("Anthropic-Beta", "effort-2025-11-24")]),
        named(asked(), [("anthropic-version", "2023-06-01")]),
        named(asked(), query="?beta=true"),
        named(asked(), tag="google-vertex"),
        *map(named, in_two_apis),
    }
    assert len(names) == 7
    spoken = {
        named(read(CHAT, {"model": DEAR_MODEL, **in_chat("go")[1], "verbosity": each})) for each in ("low", "high")
    }
    assert len(spoken) == 2


def test_a_preamble_ends_before_the_first_message_of_a_user_or_of_the_model() -> None:
    def count(*messages: dict[str, Any]) -> int:
        return system_count(read(CHAT, {"model": DEAR_MODEL, "messages": list(messages)}).prompt)

    system, user = {"role": "system", "content": "s"}, {"role": "user", "content": "u"}
    assert count(user, system) == 0
    assert count(system, {**system, "role": "developer"}, user, system) == 2
    assert count(system, {**system, "reasoning": "r"}, user) == 1
    assert count(system) == 1
    assert count(*[system] * 9, user) == 8
    assert system_count(read(RESPONSES, {"model": DEAR_MODEL, "input": "u"}).prompt) == 0
    item = {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "d"}]}
    assert system_count(read(RESPONSES, {"model": DEAR_MODEL, "input": [item, {**item, "role": "user"}]}).prompt) == 1


def test_a_preamble_s_bytes_are_those_of_tools_and_system_text() -> None:
    bare = preamble_bytes(asked(system="").prompt)
    assert preamble_bytes(asked("u" * 9999, system="").prompt) == bare
    assert preamble_bytes(asked(system="s" * 500).prompt) == bare + 500
    tools = [{"name": "f", "description": "d" * 500, "input_schema": {"type": "object"}}]
    assert preamble_bytes(asked(system="", tools=tools).prompt) > bare + 500
