"""A plain command line of `proxy` is read as Typer reads it; whatever else it is, is left to Typer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from agent_preflight.cli.proxy import app
from agent_preflight.launch.proxy_command import OPTIONS, flag, plain_settings, read_plain
from preflight_proxy.base.config import StandaloneConfig

COMMAND = typer.main.get_command(app)
FLAGS = [flag(name) for name in OPTIONS]
WORDS = st.sampled_from(
    [*FLAGS, *(f"{each}=a=1" for each in FLAGS), "", "a=1", "-x", "--", "-h", "--nope", "status", "="]
)


def read_by_typer(words: list[str]) -> dict[str, Any] | None:
    """Return what Typer makes of a command line; None for an error, help or a command below."""
    try:
        context = COMMAND.make_context("proxy", list(words))
    except Exception:
        return None
    return None if [*context.args, *context._protected_args] else comparable(context.params)


def comparable(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with paths as texts, and without empty lists."""
    paths = {name: str(Path(values[name])) for name in ("data", "ready_file") if values[name] is not None}
    return {name: value or None for name, value in (values | paths).items()}


@given(st.lists(WORDS, max_size=6))
def test_what_is_read_is_what_typer_reads(words: list[str]) -> None:
    if (plain := read_plain(words)) is not None:
        assert comparable(plain) == read_by_typer(words)


SWITCHES = {flag(name) for name, option in OPTIONS.items() if option.metavar is None}


@given(st.lists(st.sampled_from(FLAGS), max_size=4))
def test_every_option_with_a_value_is_plain(names: list[str]) -> None:
    assert read_plain([name if name in SWITCHES else f"{name}=1" for name in names]) is not None


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["status"], ["--data"], ["--byok=1"], ["--dat", "x"], ["--nope", "x"], ["--"], [""]]
)
def test_anything_else_is_left_to_typer(words: list[str]) -> None:
    assert read_plain(["--budget", "1", *words]) is None


def test_options_become_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-key")
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://127.0.0.1:9/api/v1")
    words = ["--data", str(tmp_path), "--account", "a=1", "--account=b=$0.5", "--byok", "--durability", "power"]
    words += ["--bound=proven", "--cache-bound", "billed", "--no-weigh", "--share-preambles"]
    settings = plain_settings([*words, "--listen=127.0.0.1:0", "--ready-file", "r.json", "--unix", "p.sock"])
    assert settings == StandaloneConfig(
        data=str(tmp_path),
        upstream="http://127.0.0.1:9/api/v1",
        listen="127.0.0.1:0",
        unix="p.sock",
        limits_usd={"a": "1.00", "b": "0.50"},
        byok=True,
        durability="power",
        bound="proven",
        cache_bound="billed",
        weigh=False,
        share_preambles=True,
        ready_file="r.json",
    )


@pytest.mark.parametrize(
    "wrong",
    [
        "--budget=0",
        "--account=../a=1",
        "--upstream=ftp://x",
        "--upstream=http://x y",
        "--listen=x",
        "--durability=x",
        "--bound=x",
        "--cache-bound=x",
    ],
)
def test_a_wrong_value_is_left_to_typer_which_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-key")
    right = [f"--data={tmp_path}", "--account=b=1", "--upstream=http://127.0.0.1:9/api/v1"]
    assert plain_settings(right) == StandaloneConfig(
        data=str(tmp_path), upstream="http://127.0.0.1:9/api/v1", listen="127.0.0.1:8788", limits_usd={"b": "1.00"}
    )
    assert plain_settings([*right, wrong]) is None


def test_a_missing_key_is_left_to_typer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENROUTER_API_KEY", raising=False)
    assert plain_settings([f"--data={tmp_path}", "--budget=1"]) is None
