"""Log lines are flat JSON without a key in them, whatever a library put into a message."""

import errno
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from preflight_proxy.base import log
from preflight_proxy.core.secret import Secret
from tests.support.cases import each

KEY = "sk-or-v1-0123456789abcdef0123456789abcdef"
TOKEN = "pf-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789_-abc"


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """Where the configured log writes; the settings of before are restored."""
    before = structlog.get_config()
    stream = io.StringIO()
    log.configure(stream)
    yield stream
    structlog.configure(**before)


def test_a_line_is_one_json_object_with_event_level_and_time(out: io.StringIO) -> None:
    structlog.get_logger("x").info("ledger.reserved", account="a", reserved_pusd=5, held=True, wait_s=0.5, tag=None)
    (line,) = out.getvalue().splitlines()
    told = json.loads(line)
    assert told.pop("timestamp").endswith("Z")
    assert told == {
        "event": "ledger.reserved",
        "level": "info",
        "account": "a",
        "reserved_pusd": 5,
        "held": True,
        "wait_s": 0.5,
        "tag": None,
    }


@each("text", [KEY, f"Bearer {KEY}", f'{{"key": "{KEY}"}}', TOKEN, f"token={TOKEN};", KEY + TOKEN])
def test_keys_and_tokens_are_redacted_inside_text(text: str) -> None:
    shown = log.redact(text)
    assert log.REDACTED in shown
    assert "0123456789" not in shown


@each("text", ["", "sk-or-", "openai/gpt-4.1-nano", "pf-short", "a half-pf-word", "gen-1700000000"])
def test_other_text_stays(text: str) -> None:
    assert log.redact(text) == text


def test_a_key_in_any_field_is_redacted(out: io.StringIO) -> None:
    structlog.get_logger("x").warning(
        f"odd {KEY}", headers={"Authorization": KEY}, body=KEY.encode(), seen=[KEY, TOKEN]
    )
    assert "0123456789" not in out.getvalue()
    assert out.getvalue().count(log.REDACTED) == 5


def test_a_secret_is_shown_as_none(out: io.StringIO) -> None:
    structlog.get_logger("x").info("account.opened", key=Secret(KEY))
    assert KEY[:14] not in out.getvalue()


def test_a_traceback_is_kept_and_redacted(out: io.StringIO) -> None:
    try:
        raise RuntimeError(f"refused {KEY}")
    except RuntimeError as exc:
        structlog.get_logger("x").error("request.crashed", exc_info=exc)
    (line,) = out.getvalue().splitlines()
    told = json.loads(line)
    assert "Traceback" in told["exception"]
    assert KEY not in line


def test_control_characters_reach_no_terminal(out: io.StringIO) -> None:
    structlog.get_logger("x").info("request.field_dropped", field="\x1b]0;owned\x07\r\n{}")
    (line,) = out.getvalue().splitlines()
    assert "\x1b" not in line
    assert "\x07" not in line


def test_lines_below_the_level_are_not_written(out: io.StringIO) -> None:
    log.configure(out, level=logging.WARNING)
    structlog.get_logger("x").info("quiet")
    structlog.get_logger("x").warning("loud")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["loud"]


class FullDisk(io.StringIO):
    """A stream on a disk without space."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_line_that_cannot_be_written_fails_nobody(out: io.StringIO) -> None:
    log.configure(FullDisk())
    structlog.get_logger("x").error("ledger.poisoned")
    assert out.getvalue() == ""
