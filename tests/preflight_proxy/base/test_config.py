"""Settings are read whole or not at all, and a wrong one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from preflight_proxy.base.config import (
    GRACE_S,
    Config,
    host_port,
    origin,
    read_config,
    user_counts_file,
    user_quarantine_file,
)
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each

LEAST = {"data": "/d", "upstream": "https://openrouter.ai/api/v1"}


def test_the_least_settings_have_defaults() -> None:
    config = read_config(json.dumps(LEAST).encode())
    assert config == Config(data="/d", upstream="https://openrouter.ai/api/v1")
    assert (config.listen, config.control, config.ready_file, config.run) == (None, None, None, None)
    assert (config.grace_s, config.durability, config.unknown_fields) == (GRACE_S, "process", "drop")
    assert (config.bound, config.cache_bound, config.weigh) == ("measured", "write", True)
    assert (config.share_preambles, config.shared_counts_file) == (False, None)
    assert config.data_dir == Path("/d")


def test_what_a_runner_sends_is_read() -> None:
    sent = {
        **LEAST,
        "listen": None,
        "control": "/s/c.sock",
        "ready_file": "/s/r.json",
        "run": "r",
        "grace_s": 0.5,
        "durability": "power",
        "bound": "proven",
        "cache_bound": "billed",
        "weigh": False,
        "share_preambles": True,
        "shared_counts_file": "/s/counts",
    }
    config = read_config(json.dumps(sent).encode())
    assert (config.control, config.run, config.grace_s, config.durability) == ("/s/c.sock", "r", 0.5, "power")
    assert (config.bound, config.cache_bound, config.weigh) == ("proven", "billed", False)
    assert (config.share_preambles, config.shared_counts_file) == (True, "/s/counts")


def test_the_users_files_lie_in_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    folder = Path("/s/agent-preflight")
    assert (user_quarantine_file(), user_counts_file()) == (
        folder / "quarantine.jsonl",
        folder / "token_counts.sqlite3",
    )


@each(
    "document, says",
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "object"),
        (b'{"data":"/d"}', "upstream"),
        (json.dumps({**LEAST, "grace": 1}).encode(), "grace"),
        (json.dumps({**LEAST, "durability": "none"}).encode(), "durability"),
        (json.dumps({**LEAST, "bound": "bytes"}).encode(), "bound"),
        (json.dumps({**LEAST, "cache_bound": "read"}).encode(), "cache_bound"),
        (json.dumps({**LEAST, "grace_s": "1"}).encode(), "grace_s"),
        (json.dumps({**LEAST, "grace_s": -1}).encode(), "grace_s"),
        (json.dumps({**LEAST, "upstream": "openrouter.ai"}).encode(), "openrouter.ai"),
        (json.dumps({**LEAST, "upstream": "file:///etc"}).encode(), "file"),
        (b'{"data":"\xff"}', "(?i)utf-8"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(document: bytes, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_config(document)


@each(
    "listen, expected",
    [
        ("127.0.0.1:8788", ("127.0.0.1", 8788)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
    ],
)
def test_an_address_is_split(listen: str, expected: tuple[str, int]) -> None:
    assert host_port(listen) == expected


@each("listen", ["", "8788", ":8788", "127.0.0.1", "127.0.0.1:", "h:-1", "h:65536", "h:x", "h:٣", "h:" + "9" * 5000])
def test_what_is_no_address_is_named(listen: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        host_port(listen)


@each(
    "upstream, expected",
    [
        ("https://openrouter.ai/api/v1", "https://openrouter.ai"),
        ("https://openrouter.ai", "https://openrouter.ai"),
        ("https://OpenRouter.AI:443/api/v1/", "https://openrouter.ai"),
        ("HTTPS://openrouter.ai./api", "https://openrouter.ai"),
        ("https://openrouter.ai:8443/api/v1", "https://openrouter.ai:8443"),
        ("http://openrouter.ai:80/", "http://openrouter.ai"),
        ("http://openrouter.ai:443/", "http://openrouter.ai:443"),
        ("http://user:word@127.0.0.1:9/api/v1", "http://127.0.0.1:9"),
        ("http://[::1]:9/api/v1", "http://[::1]:9"),
        ("http://h:99999999/", "http://h:99999999/"),
    ],
)
def test_an_upstreams_origin_has_one_spelling(upstream: str, expected: str) -> None:
    assert origin(upstream) == expected
