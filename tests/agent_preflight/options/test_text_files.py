"""Text files that a person names, and env files as Docker and dotenv write them."""

from pathlib import Path

import pytest

from agent_preflight.options.text_files import BYTES_MAX, parse_env_file, read_text
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each


def test_read_text_returns_the_text_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("ü")
    assert read_text(tmp_path / "a") == read_text(str(tmp_path / "a")) == "ü"


@pytest.mark.parametrize("content", [b"\xff", b"#" * (BYTES_MAX + 1)])
def test_a_large_file_or_one_that_is_not_utf8_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ConfigError, match=r"UTF-8|larger"):
        read_text(tmp_path / "a")


@pytest.mark.parametrize("name", ["missing", "", "a/b", "~no-such-user-here/a"])
def test_a_file_that_cannot_be_read_is_an_error_with_the_reason(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_text(tmp_path / name if not name.startswith("~") else name)


@each(
    "text, variables",
    [
        ("A=1\nB=two words\n", {"A": "1", "B": "two words"}),
        ("# a comment\n\n   # another\nA=1", {"A": "1"}),
        ("A=pass#word # kept", {"A": "pass#word # kept"}),
        ("A=", {"A": ""}),
        ("A", {"A": None}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("  A=1", {"A": "1"}),
        ("A=b=c", {"A": "b=c"}),
        ("A='$x \\n \"y\"' # comment", {"A": '$x \\n "y"'}),
        ('A="a \\"b\\" \\\\ # c"', {"A": 'a "b" \\ # c'}),
        ('A="x\\ty"', {"A": "x\ty"}),
        ('A=""', {"A": ""}),
        ("A=it's", {"A": "it's"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=\u2028x", {"A": "x"}),
        ("A=x\u2028y", {"A": "x\u2028y"}),
        ("", {}),
    ],
)
def test_an_env_file_is_read_as_docker_and_dotenv_read_it(text: str, variables: dict[str, str | None]) -> None:
    assert parse_env_file(text, "e") == variables


@each(
    "line",
    [
        "=secret",
        "A B=secret",
        "A =secret",
        "B secret",
        "A='secret",
        'A="secret',
        'A="secret\\"',
        "A='x'secret",
        '"A"=secret',
    ],
)
def test_a_wrong_line_is_an_error_with_its_number_and_without_its_text(line: str) -> None:
    with pytest.raises(ConfigError, match=r"^e, line 3: ") as caught:
        parse_env_file(f"A=1\n# comment\n{line}\n", "e")
    assert "secret" not in str(caught.value)
