"""Files of variables, as Docker and dotenv write them."""

import pytest

from agent_preflight.options.env_file import parse_env_file
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each


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
def test_a_file_is_read_as_its_writer_means_it(text: str, variables: dict[str, str | None]) -> None:
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
def test_a_wrong_line_is_named_by_its_number_and_not_shown(line: str) -> None:
    with pytest.raises(ConfigError, match=r"^e, line 3: ") as caught:
        parse_env_file(f"A=1\n# comment\n{line}\n", "e")
    assert "secret" not in str(caught.value)
