"""The text of a small file that a person names."""

from pathlib import Path

import pytest

from agent_preflight.options.text_file import BYTES_MAX, read_text
from preflight_proxy.core.errors import ConfigError


def test_a_files_text_is_returned(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ü")
    assert read_text(tmp_path / "a") == read_text(str(tmp_path / "a")) == "ü"


@pytest.mark.parametrize("content", [b"\xff", b"#" * (BYTES_MAX + 1)])
def test_what_is_no_text_of_a_page_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ConfigError, match=r"UTF-8|larger"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize("name", ["missing", "", "a/b", "~no-such-user-here/a"])
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_text(tmp_path / name if not name.startswith("~") else name)
