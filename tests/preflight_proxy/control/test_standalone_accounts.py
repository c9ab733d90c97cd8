"""The accounts of a stand-alone proxy: what is kept, what a start opens, and what is left by one that was killed."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from openrouter_sim import FaultRule, Scenario, Simulator
from preflight_proxy.app import RunningProxy, running
from preflight_proxy.base.control_messages import AccountSpec
from preflight_proxy.control.standalone_accounts import StandaloneAccounts, new_token, read_tokens
from preflight_proxy.core.errors import ConfigError, LedgerError
from preflight_proxy.core.ledger.rows import CLOSED
from preflight_proxy.core.money import limit_pusd
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.core.secret import Secret
from tests.support.paused_answer import PausedAnswer
from tests.support.proxy_world import chat, quick_config

ROOT = Path(__file__).resolve().parents[3]
wire = pytest.mark.wire


class Desk:
    """A proxy in this process and its named accounts."""

    def __init__(self, proxy: RunningProxy, named: StandaloneAccounts, client: aiohttp.ClientSession) -> None:
        self.proxy = proxy
        self.named = named
        self.client = client
        self.made: frozenset[str] = frozenset()

    async def call(self, token: str) -> tuple[int, str]:
        """One call: status, and the message of a refusal."""
        headers = {"Authorization": f"Bearer {token}"}
        url = f"{self.proxy.base_url}/chat/completions"
        async with self.client.post(url, json=chat(), headers=headers) as response:
            document = await response.json()
            return response.status, document.get("error", {}).get("message", "")

    def limits(self) -> dict[str, int]:
        """Each account's limit, in cents."""
        accounts = self.proxy.ledger.accounts()
        return {name: accounts[name].limit_pusd // 10**10 for name in self.named.names()}


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as made:
        yield made


@contextlib.asynccontextmanager
async def started(
    data: Path, sim: Simulator, limits_usd: Mapping[str, str] | None = None, key: str = ""
) -> AsyncIterator[Desk]:
    """A start of the proxy that has this folder."""
    (data / "budget").mkdir(parents=True, exist_ok=True)
    async with running(quick_config(data, sim.base_url)) as proxy, aiohttp.ClientSession() as client:
        named = StandaloneAccounts(proxy.ledger, proxy.accounts, data, Secret(key or sim.inference_key))
        desk = Desk(proxy, named, client)
        desk.made = await named.open_all({name: limit_pusd(limit) for name, limit in (limits_usd or {}).items()})
        yield desk


# While it runs


@wire
async def test_an_account_that_is_added_serves_at_once_and_is_kept_privately(tmp_path: Path, sim: Simulator) -> None:
    async with started(tmp_path, sim) as desk:
        token = await desk.named.add("alice", limit_pusd("5"))
        assert (await desk.call(token))[0] == 200
        assert (desk.named.token("alice"), read_tokens(tmp_path)) == (token, {"alice": token})
        assert stat.S_IMODE((tmp_path / "tokens.json").stat().st_mode) == 0o600
        assert "remaining of $5.00" in (tmp_path / "budget" / "alice.txt").read_text()


@wire
@pytest.mark.parametrize(
    ("name", "limit_usd", "said"),
    [
        ("a", "1", "there is an account 'a' already"),
        ("frozen", "1", "there is an account 'frozen' already"),
        ("../b", "1", "cannot be an account's name"),
        ("", "1", "cannot be an account's name"),
        ("b", "0", r"\$0"),
        ("b", "much", "no amount in dollars"),
        ("b", "1000001", "the largest limit"),
    ],
)
async def test_an_account_that_cannot_be_added_changes_nothing(
    tmp_path: Path, sim: Simulator, name: str, limit_usd: str, said: str
) -> None:
    async with started(tmp_path, sim, {"a": "1", "frozen": "2"}) as desk:
        await desk.proxy.accounts.freeze("frozen", "by hand")
        tokens = (tmp_path / "tokens.json").read_text()
        with pytest.raises(ValueError, match=said):
            await desk.named.add(name, limit_pusd(limit_usd))
        assert (tmp_path / "tokens.json").read_text() == tokens
        assert desk.limits() == {"a": 100, "frozen": 200}


@wire
async def test_a_frozen_account_refuses_in_the_fixed_sentence(tmp_path: Path, sim: Simulator) -> None:
    async with started(tmp_path, sim, {"a": "1", "b": "1"}) as desk:
        await desk.proxy.accounts.freeze("a", "frozen by a person")
        assert await desk.call(desk.named.token("a")) == (402, Code.FROZEN.sentence)
        assert (await desk.call(desk.named.token("b")))[0] == 200


@wire
@pytest.mark.parametrize("is_frozen", [False, True])
async def test_a_removed_accounts_token_is_refused_and_its_spent_amount_stays(
    tmp_path: Path, sim: Simulator, is_frozen: bool
) -> None:
    async with started(tmp_path, sim, {"a": "1", "b": "1"}) as desk:
        token = desk.named.token("a")
        assert (await desk.call(token))[0] == 200
        if is_frozen:
            await desk.proxy.accounts.freeze("a", "by hand")
        await desk.named.remove("a")
        assert (await desk.call(token))[0] == 401
        assert (desk.named.names(), list(read_tokens(tmp_path))) == (["b"], ["b"])
        for ask in (desk.named.token, desk.named.check):
            with pytest.raises(KeyError, match="a"):
                ask("a")
        with pytest.raises(KeyError, match="a"):
            await desk.named.remove("a")
    async with started(tmp_path, sim, {"b": "1"}) as desk:
        assert (await desk.call(token))[0] == 401
        posted_pusd = desk.proxy.ledger.account("a").posted_pusd
        assert Decimal(posted_pusd).scaleb(-12) == sim.bill().total_usd > 0
        again = await desk.named.add("a", limit_pusd("2"))
        assert again != token
        assert [(await desk.call(each))[0] for each in (token, again)] == [401, 200]
        account = desk.proxy.ledger.account("a")
        assert (account.limit_pusd, account.posted_pusd > posted_pusd) == (2 * 10**12, True)


@wire
async def test_what_is_pending_of_a_removed_account_settles_in_this_process_and_in_the_next(
    tmp_path: Path, sim: Simulator
) -> None:
    """The proxy has no other account. A copy of its folder is what it leaves if it is killed."""
    held = PausedAnswer()
    sim.scenario = Scenario(faults=(FaultRule(held, times=1),))
    data, left = tmp_path / "data", tmp_path / "left"
    async with started(data, sim, {"a": "1"}) as desk:
        headers, url = {"Authorization": f"Bearer {desk.named.token('a')}"}, f"{desk.proxy.base_url}/chat/completions"
        async with desk.client.post(url, json=chat(stream=True), headers=headers) as response:
            await response.content.readany()
            await desk.named.remove("a")
            assert b"ended by its operator" in await response.content.read()
        assert desk.proxy.ledger.account("a").pending_pusd > 0
        shutil.copytree(data, left, ignore=shutil.ignore_patterns("*.sock"))
        held.over.set()
        await settled(desk, "a", sim)
    async with started(left, sim) as desk:
        assert desk.proxy.ledger.account("a").pending_pusd > 0
        await settled(desk, "a", sim)


async def settled(desk: Desk, name: str, sim: Simulator) -> None:
    """Return once nothing is pending for an account, and what is posted is the bill."""
    async with asyncio.timeout(30):
        while desk.proxy.ledger.account(name).pending_pusd:
            await asyncio.sleep(0.01)
    assert Decimal(desk.proxy.ledger.account(name).posted_pusd).scaleb(-12) == sim.bill().total_usd > 0


@wire
async def test_an_account_that_is_added_while_it_is_being_removed_is_open_afterwards(
    tmp_path: Path, sim: Simulator
) -> None:
    held = PausedAnswer()
    sim.scenario = Scenario(faults=(FaultRule(held, times=1),))
    async with started(tmp_path, sim, {"a": "1"}) as desk:
        before = desk.named.token("a")
        headers, url = {"Authorization": f"Bearer {before}"}, f"{desk.proxy.base_url}/chat/completions"
        async with desk.client.post(url, json=chat(stream=True), headers=headers) as response:
            await response.content.readany()
            removed, token = await asyncio.gather(desk.named.remove("a"), desk.named.add("a", limit_pusd("2")))
        held.over.set()
        assert (removed, desk.named.token("a"), read_tokens(tmp_path)) == (None, token, {"a": token})
        assert [(await desk.call(each))[0] for each in (before, token)] == [401, 200]


@wire
async def test_of_many_changes_at_once_each_counts(tmp_path: Path, sim: Simulator) -> None:
    names = [f"n{index}" for index in range(12)]
    async with started(tmp_path, sim) as desk:
        tokens = await asyncio.gather(*(desk.named.add(name, limit_pusd("1")) for name in names))
        assert len(set(tokens)) == len(names)
        twice = await asyncio.gather(
            *(desk.named.add("twice", limit_pusd("1")) for _ in range(3)), return_exceptions=True
        )
        assert sorted(type(each).__name__ for each in twice) == ["ValueError", "ValueError", "str"]
        await asyncio.gather(*(desk.named.remove(name) for name in names[::2]))
        assert set(desk.named.names()) == {*names[1::2], "twice"}
        assert read_tokens(tmp_path) == {name: desk.named.token(name) for name in desk.named.names()}


@wire
async def test_where_the_token_cannot_be_kept_no_account_is_opened(tmp_path: Path, sim: Simulator) -> None:
    async with started(tmp_path, sim, {"a": "1"}) as desk:
        (tmp_path / ".tokens.json.new").mkdir()
        with pytest.raises(ConfigError, match=r"tokens\.json cannot be written"):
            await desk.named.add("b", limit_pusd("1"))
        assert (desk.named.names(), "b" in desk.proxy.ledger.accounts()) == (["a"], False)
        token = desk.named.token("a")
        await desk.named.remove("a")
        assert ((await desk.call(token))[0], desk.named.names()) == (401, [])
        (tmp_path / ".tokens.json.new").rmdir()
        again = await desk.named.add("a", limit_pusd("1"))
        assert [(await desk.call(each))[0] for each in (token, again)] == [401, 200]
        (tmp_path / ".tokens.json.new").mkdir()
        await desk.named.remove("a")
        (tmp_path / ".tokens.json.new").rmdir()
    async with started(tmp_path, sim) as desk:
        assert (desk.named.names(), read_tokens(tmp_path)) == ([], {})


@wire
async def test_where_the_ledger_cannot_be_written_nothing_is_removed(tmp_path: Path, sim: Simulator) -> None:
    async with started(tmp_path, sim, {"a": "1"}) as desk:
        desk.proxy.ledger.store.poison("the disk is gone")
        for change in (desk.named.remove("a"), desk.named.add("b", limit_pusd("1"))):
            with pytest.raises(LedgerError):
                await change
        assert desk.named.names() == ["a"]
        token = desk.named.token("a")
    async with started(tmp_path, sim) as desk:
        assert (desk.named.names(), read_tokens(tmp_path)) == (["a"], {"a": token})
        assert (await desk.call(token))[0] == 200


# The next start


@wire
async def test_a_start_opens_what_is_kept_with_the_limits_that_it_has_and_names_what_it_made(
    tmp_path: Path, sim: Simulator
) -> None:
    async with started(tmp_path, sim, {"a": "1", "b": "2"}) as desk:
        assert desk.made == {"a", "b"}
        await desk.named.add("c", limit_pusd("3"))
        desk.proxy.accounts.set_limit("a", 7 * 10**12)
        desk.proxy.accounts.top_up("b", 10**12)
        await desk.proxy.accounts.freeze("b", "by hand")
        tokens = read_tokens(tmp_path)
    async with started(tmp_path, sim, {"c": "0.5", "d": "4"}) as desk:
        assert desk.limits() == {"a": 700, "b": 300, "c": 50, "d": 400}
        assert desk.made == {"d"}
        assert {name: desk.named.token(name) for name in "abc"} == tokens
        assert [(await desk.call(tokens[name]))[0] for name in "ac"] == [200, 200]
        assert await desk.call(tokens["b"]) == (402, Code.FROZEN.sentence)


@wire
async def test_a_removed_account_is_opened_by_a_start_that_names_it_with_a_new_token(
    tmp_path: Path, sim: Simulator
) -> None:
    async with started(tmp_path, sim, {"a": "1"}) as desk:
        token = desk.named.token("a")
        await desk.named.remove("a")
    (tmp_path / "tokens.json").write_text(json.dumps({"a": token}))  # killed before it had forgotten the token
    async with started(tmp_path, sim) as desk:
        assert (desk.named.names(), read_tokens(tmp_path)) == ([], {})
    (tmp_path / "tokens.json").write_text(json.dumps({"a": token}))
    async with started(tmp_path, sim, {"a": "1"}) as desk:
        assert (list(desk.made), desk.named.token("a") == token) == (["a"], False)
        assert [(await desk.call(each))[0] for each in (token, desk.named.token("a"))] == [401, 200]


@wire
async def test_an_account_whose_token_is_lost_gets_a_new_one(tmp_path: Path, sim: Simulator) -> None:
    async with started(tmp_path, sim, {"a": "1"}) as desk:
        token = desk.named.token("a")
    (tmp_path / "tokens.json").unlink()
    async with started(tmp_path, sim) as desk:
        assert desk.made == {"a"}
        assert [(await desk.call(each))[0] for each in (token, desk.named.token("a"))] == [401, 200]


@wire
async def test_an_account_of_a_run_is_not_opened_with_this_key(tmp_path: Path, sim: Simulator) -> None:
    token = new_token()
    async with started(tmp_path, sim, {"a": "1"}) as desk:
        spec = AccountSpec(limit_pusd=limit_pusd("1"), token=Secret(token), key=Secret(sim.inference_key), run="run")
        await desk.proxy.accounts.open("trial", spec)
    async with started(tmp_path, sim) as desk:
        assert desk.named.names() == ["a"]
        assert desk.proxy.ledger.account("trial").frozen_reason == CLOSED
        assert (await desk.call(token))[0] == 401


@wire
async def test_another_key_is_the_key_of_every_account_from_then_on(tmp_path: Path, sim: Simulator) -> None:
    async with started(tmp_path, sim, {"a": "1", "b": "1"}, key="sk-or-v1-revoked-one") as desk:
        assert (await desk.call(desk.named.token("a")))[0] != 200
        await desk.named.remove("b")
    async with started(tmp_path, sim) as desk:
        assert (await desk.call(desk.named.token("a")))[0] == 200
        assert desk.proxy.ledger.account_state("b").key is None


@wire
async def test_a_token_that_is_another_accounts_is_named(tmp_path: Path, sim: Simulator) -> None:
    async with started(tmp_path, sim, {"a": "1", "b": "1"}) as desk:
        tokens = read_tokens(tmp_path)
        await desk.named.remove("a")
    (tmp_path / "tokens.json").write_text(json.dumps({"b": tokens["a"]}))
    with pytest.raises(ConfigError, match="token of b is that of another account"):
        async with started(tmp_path, sim, {"b": "1"}) as desk:
            del desk


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"x"', '{"a": 1}', '{"a": null}', '{"a": ""}', '{"a": "short"}', '{"a": "pf-\\u00e4aaaaaaaaaaaaaaa"}',
     '{"a": "pf-aaaaaaaaaaaaaaaa\\n"}', '{"a": "pf-aaaaaaaaaaaaaaaa", "b": "pf-aaaaaaaaaaaaaaaa"}'],
)  # fmt: skip
def test_tokens_that_no_proxy_wrote_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens.json").write_text(text)
    with pytest.raises(ConfigError, match=r"tokens\.json cannot be read: .* Remove the file to have new ones made"):
        read_tokens(tmp_path)


def test_tokens_differ_and_are_recognised_for_redaction() -> None:
    assert new_token() != new_token()
    assert new_token().startswith("pf-")


@wire
def test_a_change_that_is_killed_at_any_moment_is_made_or_not_made(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.support.killed_accounts", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    states = {name: int(count) for name, count in (line.split() for line in done.stdout.splitlines())}
    assert states.keys() == {"add", "add-again", "remove", "remove-frozen", "start"}
    assert min(states.values()) >= 4
