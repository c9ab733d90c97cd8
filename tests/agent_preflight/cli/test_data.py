"""`agent-preflight metrics`."""

import sys
from pathlib import Path

import pytest

from agent_preflight.operate import metrics as served
from tests.support.cli_commands import CommandResult, invoke


def metrics(folder: Path, *arguments: str) -> CommandResult:
    return invoke("metrics", str(folder), *arguments)


@pytest.mark.parametrize("listen", ["", "9188", "127.0.0.1", "127.0.0.1:70000", "127.0.0.1:-1", ":9188"])
def test_an_address_that_is_none_is_a_sentence(tmp_path: Path, listen: str) -> None:
    told = metrics(tmp_path, f"--listen={listen}")
    assert (told.exit_code, told.stdout) == (2, "")
    assert "is not HOST:PORT, such as 127.0.0.1:8788." in told.stderr


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    told = metrics(tmp_path / "none", "--listen=127.0.0.1:0")
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == (
        f"There is no folder {tmp_path}/none. Name the folder of a run, of a stand-alone proxy, or of runs.\n"
    )


def test_an_address_that_is_taken_is_a_sentence(tmp_path: Path) -> None:
    told = metrics(tmp_path, "--listen=203.0.113.7:9188")
    assert (told.exit_code, told.stdout) == (1, "")
    warning, sentence = told.stderr.splitlines()
    assert warning.startswith("Warning: whoever reaches 203.0.113.7:9188 can read ")
    assert sentence == "Cannot listen on 203.0.113.7:9188: Cannot assign requested address. Name another --listen."


@pytest.mark.parametrize("listen", ["127.0.0.1:9188", "[::1]:9188", "localhost:9188"])
def test_loopback_has_no_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listen: str) -> None:
    monkeypatch.setattr(served, "serve_metrics", lambda *_: None)
    told = metrics(tmp_path, f"--listen={listen}")
    assert (told.exit_code, told.output) == (0, "")


def test_the_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "agent_preflight.operate.metrics")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    told = metrics(tmp_path)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == "`metrics` needs another package: pip install prometheus-client\n"
