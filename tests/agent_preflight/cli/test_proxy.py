"""`agent-preflight proxy`: its options, its ready file, and the calls it let through as `costs` tells them."""

import json
import socket
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from openrouter_sim import Simulator
from tests.support.cli_commands import CommandResult, invoke
from tests.support.served_command import served

BODY = {"model": "openai/gpt-4.1-nano", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}


def proxy(data: Path, *arguments: str, key: str | None = "sk-or-key") -> CommandResult:
    return invoke("proxy", "--data", str(data), *arguments, env={"OPENROUTER_API_KEY": key})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give --budget 1.00, or --account NAME=USD"),
        (("--budget", "1", "--account", "a=1"), "not both"),
        (("--account", "a"), "give NAME=USD, such as alice=5, not 'a'"),
        (("--account", "=1"), "'' cannot be an account's name"),
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


def one_line(told: CommandResult) -> str:
    """What a start says that failed."""
    assert (told.exit_code, told.stdout, told.stderr.count("\n")) == (1, "", 1)
    return told.stderr


@pytest.mark.wire
def test_an_address_that_is_taken_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        said = one_line(proxy(tmp_path / "data", "--budget", "1", "--listen", address))
    assert said.startswith(f"The proxy cannot listen on {address}: Address already in use. Choose another address")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.wire
def test_what_else_cannot_be_had_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    data, free = tmp_path / "data", ("--budget", "1", "--listen", "127.0.0.1:0")
    (tmp_path / "file").write_text("")
    nowhere = str(tmp_path / "no" / "p")
    assert "name.invalid:1" in one_line(proxy(data, "--budget", "1", "--listen", "name.invalid:1"))
    assert f"cannot listen on {nowhere}: its folder" in one_line(proxy(data, *free, "--unix", nowhere))
    assert "is no socket" in one_line(proxy(data, *free, "--unix", str(tmp_path / "file")))
    assert f"The file {nowhere} cannot be written" in one_line(proxy(data, *free, "--ready-file", nowhere))
    assert "a file has that name" in one_line(proxy(tmp_path / "file", *free))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


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
