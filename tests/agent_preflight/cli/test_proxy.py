"""`agent-preflight proxy`, `proxy status` and `proxy account`: on a proxy that runs, and on its folder afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from openrouter_sim import Simulator
from preflight_proxy.base.clock import SystemClock
from preflight_proxy.base.control_messages import OpenedAccount, Problem, ProblemFacts, encode
from preflight_proxy.core.ledger.commands import Freeze, OpenAccount
from preflight_proxy.core.ledger.rows import CLOSED
from preflight_proxy.core.refusals.refusals import Code
from preflight_proxy.ledger.store import Store
from tests.support.cli_commands import CommandResult, invoke, run_process
from tests.support.served_command import Served, served

BODY = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}


def proxy(data: Path, *arguments: str, key: str | None = "sk-or-key") -> CommandResult:
    return invoke("proxy", "--data", str(data), *arguments, env={"OPENROUTER_API_KEY": key})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give --budget 1.00, or --account NAME=USD"),
        (("--budget", "1", "--account", "a=1"), "not both"),
        (("--account", "a"), "give NAME=USD, such as alice=5, not 'a'"),
        (("--account", "=1"), "give NAME=USD, such as alice=5, not '=1'"),
        (("--account", "a=1", "--account", "a=2"), "'a' is named twice"),
        (("--account", "../a=1"), "'../a' cannot be an account's name"),
        (("--account", "a\x1b[31m=1"), "'a\\x1b[31m' cannot be an account's name"),
        (("--account", f"{'a' * 65}=1"), "cannot be an account's name"),
        (("--account", "a=1=2"), "'a=1' cannot be an account's name"),
        (("--account", "a=1e3"), "the amount of 'a' is dollars above 0"),
        (
            ("--budget", "much"),
            "the amount of 'default' is dollars above 0 and at most 1000000, such as 0.25, not 'much'",
        ),
        (("--budget", ""), "the amount of 'default' is dollars above 0"),
        (("--budget", "0"), "the amount of 'default' is dollars above 0"),
        (("--budget", "-1"), "the amount of 'default'"),
        (("--budget", "2000000"), "at most 1000000"),
        (("--budget", "1", "--listen", "localhost"), "'localhost' is not HOST:PORT"),
        (("--budget", "1", "--listen", "127.0.0.1:99999"), "is not HOST:PORT"),
        (("--budget", "1", "--upstream", "openrouter.ai"), "must be an http or https URL"),
    ],
)
def test_a_bad_option_is_named_and_leaves_nothing(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    told = proxy(tmp_path / "data", *arguments)
    assert (told.exit_code, told.stdout) == (2, "")
    assert said in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_start_without_a_data_folder_says_so() -> None:
    told = invoke("proxy", "--budget", "1")
    assert (told.exit_code, told.stdout, "--data DIR" in told.stderr) == (2, "", True)


@pytest.mark.parametrize("key", [None, ""])
def test_without_a_key_it_names_the_variable(tmp_path: Path, key: str | None) -> None:
    told = proxy(tmp_path / "data", "--budget", "1", key=key)
    assert (told.exit_code, told.stdout, "OPENROUTER_API_KEY" in told.stderr) == (1, "", True)
    assert list(tmp_path.iterdir()) == []


def refused(data: Path, *arguments: str) -> str:
    """What a start says, in one line, that fails when the proxy has begun."""
    told = run_process("proxy", "--data", str(data), *arguments, env={"OPENROUTER_API_KEY": "sk-or-key"})
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    return told.stderr


@pytest.mark.wire
def test_an_address_that_is_taken_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = refused(tmp_path / "data", "--budget", "1", "--listen", address)
    assert said.startswith(f"The proxy cannot listen on {address}: Address already in use. Choose another address")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.wire
def test_what_else_cannot_be_had_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    data, free = tmp_path / "data", ("--budget", "1", "--listen", "127.0.0.1:0")
    (tmp_path / "file").write_text("")
    nowhere = str(tmp_path / "no" / "p")
    assert "name.invalid:1" in refused(data, "--budget", "1", "--listen", "name.invalid:1")
    assert f"cannot listen on {nowhere}: its folder" in refused(data, *free, "--unix", nowhere)
    assert "is no socket" in refused(data, *free, "--unix", str(tmp_path / "file"))
    assert f"The file {nowhere} cannot be written" in refused(data, *free, "--ready-file", nowhere)
    assert "a file has that name" in refused(tmp_path / "file", *free)
    (tmp_path / "loop").symlink_to("loop")
    assert f"The data folder {tmp_path / 'loop'} cannot be made" in refused(tmp_path / "loop", *free)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


@pytest.mark.wire
def test_it_is_the_proxy_and_shows_no_key_to_who_lists_processes(place: Place) -> None:
    """The command line's process is the proxy, so that signals and exit codes are the proxy's."""
    with place.start("--budget", "1.00") as running:
        process = psutil.Process(running.pid)
        assert (process.children(), process.environ()["OPENROUTER_API_KEY"] in " ".join(process.cmdline())) == (
            [],
            False,
        )
        os.kill(running.pid, signal.SIGINT)
    assert running.code == 0
    assert "proxy.stopping" in running.stderr


@pytest.mark.wire
def test_more_accounts_than_a_pipe_holds_are_handed_over(place: Place) -> None:
    names = [f"{number:064}" for number in range(1000)]
    with place.start(*(f"--account={name}=1" for name in names)) as running:
        assert list(running.ready["accounts"]) == names


@pytest.mark.wire
def test_a_start_without_standard_input_is_as_any_other(place: Place) -> None:
    place.data.mkdir()
    start = 'exec 0<&-; exec "$@"'
    command = ["sh", "-c", start, "sh", sys.executable, "-m", "agent_preflight", "proxy", "--data", str(place.data)]
    arguments = ["--budget", "1", "--listen", "name.invalid:1"]
    environment = {**os.environ, "OPENROUTER_API_KEY": "k"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("The proxy cannot listen on name.invalid:1")


@pytest.mark.wire
def test_the_ready_file_says_all_that_clients_need_and_costs_what_they_spent(
    simulator: Simulator, tmp_path: Path
) -> None:
    data, ready_file, key = tmp_path / "data", tmp_path / "ready.json", simulator.inference_key
    arguments = ("--data", str(data), "--listen", "127.0.0.1:0", "--account", "alice=1.00", "--account", "bob=0.50")
    with served(ready_file, "proxy", *arguments, OPENROUTER_API_KEY=key) as running:
        ready, accounts = running.ready, running.ready["accounts"]
        assert ready.keys() == {"base_url", "api_key", "pid", "control", "accounts"}
        assert {name: account["limit_usd"] for name, account in accounts.items()} == {"alice": "1.00", "bob": "0.50"}
        assert ready["api_key"] == accounts["alice"]["api_key"] != accounts["bob"]["api_key"]
        assert (ready["pid"], Path(ready["control"]).is_socket()) == (running.pid, True)
        assert stat.S_IMODE(ready_file.stat().st_mode) == 0o600
        with httpx.Client(base_url=ready["base_url"], trust_env=False) as client:
            for name in ("alice", "bob", "bob"):
                headers = {"Authorization": f"Bearer {accounts[name]['api_key']}"}
                assert client.post("chat/completions", json=BODY, headers=headers).status_code == 200
            assert client.get("key", headers={"Authorization": f"Bearer {key}"}).status_code == 401
    assert running.code == 0
    assert all(text in running.stdout for text in (ready["base_url"], ready["api_key"], accounts["bob"]["api_key"]))
    assert key not in running.stdout + running.stderr
    *calls, last = costs(data)
    assert [call["account"] for call in calls] == ["alice", "bob", "bob"]
    assert Decimal(last["sums"]["total"]["cost_usd"]) == simulator.bill().total_usd > 0


def costs(data: Path) -> list[dict[str, Any]]:
    told = invoke("costs", "--json", "--data", str(data))
    assert (told.exit_code, told.stderr) == (0, "")
    return [json.loads(line) for line in told.stdout.splitlines()]


class Place:
    """A data folder, and the simulator that its proxy goes to."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        self.data = folder / "data"
        self.ready_file = folder / "ready.json"
        self.simulator = simulator

    def start(self, *arguments: str) -> contextlib.AbstractContextManager[Served]:
        """A proxy that serves this folder."""
        self.ready_file.unlink(missing_ok=True)
        options = ("--data", str(self.data), "--listen", "127.0.0.1:0", *arguments)
        return served(self.ready_file, "proxy", *options, OPENROUTER_API_KEY=self.simulator.inference_key)

    def account(self, *arguments: str) -> CommandResult:
        """A command on its accounts."""
        return invoke("proxy", "account", *arguments, "--data", str(self.data))

    def token(self, name: str) -> str:
        """What `account show` prints."""
        told = self.account("show", name)
        assert (told.exit_code, told.stderr) == (0, "")
        return told.stdout.removesuffix("\n")

    def states(self) -> dict[str, tuple[str, str]]:
        """Limit and state of each account, as `account list --json` tells them."""
        told = self.account("list", "--json")
        assert (told.exit_code, told.stderr) == (0, "")
        rows = [json.loads(line) for line in told.stdout.splitlines()]
        return {row["account"]: (row["limit_usd"], row["state"]) for row in rows}


@pytest.fixture
def place(tmp_path: Path, simulator: Simulator) -> Place:
    return Place(tmp_path, simulator)


def call(running: Served, token: str) -> tuple[int, str]:
    """One call: status, and the message of a refusal."""
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=running.ready["base_url"], trust_env=False) as client:
        response = client.post("chat/completions", json=BODY, headers=headers)
    return response.status_code, response.json().get("error", {}).get("message", "")


@pytest.mark.wire
def test_accounts_are_added_changed_and_removed_while_it_runs(place: Place) -> None:
    with place.start("--budget", "1.00") as running:
        told = place.account("add", "alice=$5", "bob=0.50")
        assert (told.exit_code, told.stderr) == (0, "")
        first, second = told.stdout.splitlines()
        token = place.token("alice")
        assert first == f"account   alice  $5.00  {token}"
        assert second == f"account   bob  $0.50  {place.token('bob')}"
        assert call(running, token)[0] == 200

        assert place.account("raise", "alice=2").stdout.startswith("alice: limit $7.00, $0.0000")
        assert place.account("limit", "bob=0.25").stdout == "bob: limit $0.25, $0.00 spent, $0.25 available, open\n"
        assert place.account("freeze", "alice").stdout.endswith(" available, frozen\n")
        assert call(running, token) == (402, Code.FROZEN.sentence)
        assert place.account("unfreeze", "alice").stdout.endswith(" available, open\n")
        assert call(running, token)[0] == 200

        assert place.account("remove", "alice").stdout.startswith("alice: removed, $0.0000")
        for gone in (
            ("unfreeze", "alice"),
            ("freeze", "alice"),
            ("raise", "alice=1"),
            ("limit", "alice=9"),
            ("remove", "alice"),
        ):
            told = place.account(*gone)
            assert (told.exit_code, told.stdout, told.stderr) == (1, "", "There is no account 'alice'.\n"), gone
        assert call(running, token)[0] == 401
        assert place.states() == {"default": ("1", "open"), "bob": ("0.25", "open")}
        told = place.account("add", "alice=1")
        assert " spent before  pf-" in told.stdout
        assert call(running, place.token("alice"))[0] == 200
        assert call(running, token)[0] == 401


@pytest.mark.wire
def test_what_was_changed_holds_after_a_kill_and_no_token_is_printed_again(place: Place) -> None:
    with place.start("--account", "a=1", "--account", "b=2") as running:
        place.account("add", "c=3")
        place.account("raise", "a=0.5")
        place.account("freeze", "b")
        place.account("remove", "c")
        place.account("add", "d=4")
        tokens = {name: place.token(name) for name in "abd"}
        os.kill(running.pid, signal.SIGKILL)
    assert place.states() == {"a": ("1.5", "open"), "b": ("2", "frozen"), "d": ("4", "open")}
    assert {name: place.token(name) for name in "abd"} == tokens
    with place.start() as running:
        assert place.states() == {"a": ("1.5", "open"), "b": ("2", "frozen"), "d": ("4", "open")}
        assert {name: each["api_key"] for name, each in running.ready["accounts"].items()} == tokens
        assert [call(running, tokens[name])[0] for name in "abd"] == [200, 402, 200]
    assert (running.code, [token for token in tokens.values() if token in running.stdout]) == (0, [])
    assert "account   b  $2.00, frozen\n" in running.stdout
    assert "Show a token again: agent-preflight proxy account show NAME --data " in running.stdout
    with place.start("--account", "a=5", "--account", "e=1") as running:
        assert place.states() == {"a": ("5", "open"), "b": ("2", "frozen"), "d": ("4", "open"), "e": ("1", "open")}
        token = place.token("e")
    assert "account   a  $5.00, was $1.50, $0.0000" in running.stdout
    assert f"account   e  $1.00  {token}\n" in running.stdout


@pytest.mark.wire
def test_status_tells_of_a_proxy_that_runs_and_of_one_that_does_not(place: Place) -> None:
    def status(*more: str) -> str:
        told = invoke("proxy", "status", "--data", str(place.data), *more)
        assert (told.exit_code, told.stderr) == (0, "")
        return told.stdout

    with place.start("--account", "alice=5") as running:
        base_url = running.ready["base_url"]
        call(running, place.token("alice"))
        document = json.loads(status("--json"))
        assert document.keys() == {"running", "pid", "base_url", "uptime_s", "accounts"}
        assert (document["running"], document["pid"], document["base_url"]) == (True, running.pid, base_url)
        assert document["uptime_s"] >= 0
        (row,) = document["accounts"]
        assert (row["account"], row["limit_usd"], row["calls"], row["state"]) == ("alice", "5", 1, "open")
        assert f"running  {base_url}  process {running.pid}  up " in status()
    document |= {"running": False, "pid": None, "base_url": None, "uptime_s": None}
    assert json.loads(status("--json")) == document
    assert status().startswith("not running  ")
    assert "alice" in status()


@pytest.mark.wire
def test_a_second_proxy_is_told_the_first_ones_process_and_changes_nothing(place: Place) -> None:
    with place.start("--budget", "1") as running:
        tokens = (place.data / "tokens.json").read_text()
        address = running.ready["base_url"].removeprefix("http://").removesuffix("/api/v1")
        for listen in ("127.0.0.1:0", address):
            said = refused(place.data, "--account", "new=1", "--listen", listen)
            assert f"process {running.pid}, serves {place.data}" in said
        assert (place.data / "tokens.json").read_text() == tokens
        assert call(running, running.ready["api_key"])[0] == 200


@pytest.mark.wire
def test_of_raises_at_the_same_time_each_counts(place: Place) -> None:
    command = [sys.executable, "-m", "agent_preflight", "proxy", "account", "raise", "a=0.5", "--data", str(place.data)]
    with place.start("--account", "a=1"), ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: subprocess.run(command, capture_output=True, check=False), range(4)))
        assert [each.returncode for each in done] == [0, 0, 0, 0], done
        assert place.states() == {"a": ("3", "open")}


@pytest.mark.wire
def test_a_folder_with_a_long_path_is_found_too(tmp_path: Path, simulator: Simulator) -> None:
    place = Place(tmp_path / ("long" * 30), simulator)
    place.data.parent.mkdir()
    with place.start("--budget", "1"):
        assert place.account("add", "alice=2").exit_code == 0
        assert place.states() == {"default": ("1", "open"), "alice": ("2", "open")}
    assert place.states() == {"default": ("1", "open"), "alice": ("2", "open")}
    assert not (place.data / "control.sock").is_symlink()


@pytest.mark.wire
def test_what_cannot_be_done_is_one_sentence_and_changes_nothing(place: Place) -> None:
    cases = [
        (("add", "default=1"), "there is an account 'default' already"),
        (("add", "x=1000001"), "at most 1000000"),
        *(((command, "nobody"), "There is no account 'nobody'") for command in ("freeze", "unfreeze", "remove")),
        *(((command, "nobody=1"), "There is no account 'nobody'") for command in ("raise", "limit")),
        (("show", "nobody"), "There is no account 'nobody' in "),
        (("raise", "default=999999.5"), "a limit lies between 0 and a million dollars"),
    ]
    with place.start("--budget", "1"):
        for arguments, said in cases:
            told = place.account(*arguments)
            is_option = "at most 1000000" in said
            assert (told.exit_code, told.stdout) == (2 if is_option else 1, ""), arguments
            assert said in told.stderr
        assert place.states() == {"default": ("1", "open")}
    for arguments in (("add", "x=1"), ("freeze", "default"), ("remove", "default"), ("limit", "default=2")):
        told = place.account(*arguments)
        assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (1, "", 1)
        assert "No proxy serves" in told.stderr
    assert place.states() == {"default": ("1", "open")}


@pytest.mark.wire
@pytest.mark.parametrize(
    "arguments",
    [
        *(
            ("add", text)
            for text in ("", "alice", "=5", "alice=", "alice=much", "alice=0", "alice=-1", "alice=$", "a=1,5")
        ),
        *(("add", f"{name}=1") for name in ("..", "../x", "a/b", "a b", "a\x1b[31m", "a\n", "ä", "a" * 65, "a=b")),
        ("add", "alice=1", "alice=2"),
        ("raise", "alice=0"),
        ("limit", "alice=0"),
        *((command, name) for command in ("freeze", "unfreeze", "remove", "show") for name in ("..", "a/b", "", "a=1")),
        *((command,) for command in ("add", "raise", "limit", "freeze", "unfreeze", "remove", "show")),
        ("nonsense",),
    ],
)
def test_a_bad_argument_is_an_error_of_the_command_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    told = invoke("proxy", "account", *arguments[:1], "--data", str(tmp_path / "data"), "--", *arguments[1:])
    assert (told.exit_code, told.stdout) == (2, "")
    assert "\x1b" not in told.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.wire
@pytest.mark.parametrize("command", ["status", "account list", "account show a", "account add a=1"])
def test_without_a_folder_it_is_asked_for_and_it_may_stand_before_the_command(tmp_path: Path, command: str) -> None:
    told = invoke("proxy", *command.split())
    assert (told.exit_code, told.stdout, "--data DIR" in told.stderr) == (2, "", True)
    told = invoke("proxy", "--data", str(tmp_path), *command.split())
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    assert str(tmp_path) in told.stderr


def test_the_token_of_a_removed_account_is_not_shown(tmp_path: Path) -> None:
    """A proxy that was killed while it removed an account leaves the token in its folder."""
    store = Store(tmp_path / "ledger.sqlite3", clock=SystemClock())
    for name in ("kept", "removed"):
        store.commit(OpenAccount(name, "", 10**12, f"token hash of {name}"))
    store.commit(Freeze("removed", CLOSED))
    store.close()
    tokens = {name: f"pf-{name}-0123456789" for name in ("kept", "removed")}
    (tmp_path / "tokens.json").write_text(json.dumps(tokens))
    shown, refused = (invoke("proxy", "account", "show", name, "--data", str(tmp_path)) for name in ("kept", "removed"))
    assert (shown.exit_code, shown.stdout) == (0, "pf-kept-0123456789\n")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "There is no account 'removed'" in refused.stderr
    assert "There is: kept." in refused.stderr


@pytest.mark.wire
@pytest.mark.parametrize(
    ("arguments", "request_line", "body", "line"),
    [
        (
            ("add", "a=1"),
            "POST /accounts",
            {"name": "a", "limit_usd": "1"},
            "account   a  $1.00, $0.25 spent before  pf-a",
        ),
        (
            ("raise", "a=0.5"),
            "POST /accounts/a/top-up",
            {"more_usd": "0.5"},
            "a: limit $1.00, $0.25 spent, $0.65 available, ",
        ),
        (("limit", "a=1"), "PATCH /accounts/a", {"limit_usd": "1"}, "a: limit $1.00, $0.25 spent, $0.65 available, "),
        (("freeze", "a"), "POST /accounts/a/freeze", {"reason": "frozen by a person"}, "a: limit $1.00, "),
        (("unfreeze", "a"), "POST /accounts/a/unfreeze", None, "a: limit $1.00, "),
        (
            ("remove", "a"),
            "DELETE /accounts/a",
            None,
            "a: removed, $0.25 spent, $0.10 reserved for calls that still settle",
        ),
    ],
)
async def test_accounts_are_changed_in_order_until_the_proxy_refuses_one(
    tmp_path: Path, arguments: tuple[str, str], request_line: str, body: object, line: str
) -> None:
    """The proxy knows the account `a` only; the accounts `b` and `c` are named after it."""
    requests: list[tuple[str, object]] = []
    opened = OpenedAccount(
        id="a",
        api_key="pf-a",
        limit_pusd=10**12,
        posted_pusd=25 * 10**10,
        pending_pusd=10**11,
        available_pusd=65 * 10**10,
    )

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):  # who only looks whether a proxy runs sends nothing
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            length = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            content = await reader.readexactly(int(length[1]) if length else 0)
            requests.append((head.partition(" HTTP")[0], json.loads(content) if content else None))
            document = encode(opened)
            status = b"200 OK"
            if len(requests) > 1:
                status, document = (
                    b"404 Not Found",
                    encode(Problem(ProblemFacts("unknown_account", "There is no account 'b'."))),
                )
            head_lines = b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (status, len(document))
            writer.write(head_lines + document)
            await writer.drain()
        writer.close()

    command, first = arguments
    others = [name + first[1:] for name in "bc"]
    async with await asyncio.start_unix_server(answer, tmp_path / "control.sock"):
        done = await asyncio.to_thread(invoke, "proxy", "account", command, first, *others, "--data", str(tmp_path))
    assert requests[0] == (request_line, body)
    assert len(requests) == 2
    assert (done.exit_code, done.stderr) == (1, "There is no account 'b'.\n")
    assert done.stdout.startswith(line)
    assert done.stdout.count("\n") == 1
