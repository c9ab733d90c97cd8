"""`agent-preflight simulate`."""

import socket
import stat
from pathlib import Path

import httpx
import pytest

from tests.support.cli_commands import invoke
from tests.support.served_command import served


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scenario", "bad.toml"), "Invalid"),
        (("--scenario", "none.toml"), "none.toml: No such file"),
        (("--listen", "192.0.2.1:80"), "192.0.2.1"),
    ],
)
def test_what_it_cannot_start_with_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text("tokens_per_s = ")
    told = invoke("simulate", *arguments)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr.startswith("The simulator did not start. ")
    assert told.stderr.count("\n") == 1
    assert words in told.stderr
    assert "Errno" not in told.stderr


@pytest.mark.parametrize("listen", ["nowhere", "127.0.0.1:99999", "127.0.0.1:", ":-1"])
def test_an_address_that_is_none_is_a_bad_option(listen: str) -> None:
    told = invoke("simulate", "--listen", listen)
    assert (told.exit_code, told.stdout) == (2, "")
    assert "HOST:PORT" in told.stderr


@pytest.mark.wire
def test_it_serves_until_sigterm_and_says_where_and_with_which_keys(tmp_path: Path) -> None:
    ready_file = tmp_path / "ready.json"
    with served(ready_file, "simulate", "--listen", "127.0.0.1:0") as simulator:
        ready = simulator.ready
        assert ready.keys() == {"base_url", "admin_key", "inference_key", "pid"}
        assert ready["pid"] == simulator.pid
        assert stat.S_IMODE(ready_file.stat().st_mode) == 0o600
        with httpx.Client(base_url=ready["base_url"], trust_env=False) as client:
            for path, key in (("keys", "admin_key"), ("key", "inference_key")):
                assert client.get(path, headers={"Authorization": f"Bearer {ready[key]}"}).status_code == 200
    assert simulator.code == 0
    assert all(ready[name] in simulator.stdout for name in ("base_url", "admin_key", "inference_key"))


def test_an_address_that_is_taken_asks_for_another() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = invoke("simulate", "--listen", f"127.0.0.1:{taken.getsockname()[1]}")
    assert (told.exit_code, told.stdout) == (1, "")
    assert "address already in use" in told.stderr
    assert "--listen" in told.stderr
