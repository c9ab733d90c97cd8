"""How the values of options are written, and what the readers make of them."""

import math
from decimal import Decimal
from pathlib import Path
from typing import Literal

import pytest

from agent_preflight.options import kinds
from agent_preflight.options.kinds import VARIABLE_BYTES_MAX, OptionKind, read_env, read_mounts
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret
from tests.support.cases import each


class OwnFloat(float):
    """A number of a library, as those of numpy are."""


@each(
    "kind, given, value",
    [
        (kinds.SECONDS, "1.5", 1.5),
        (kinds.SECONDS, 90, 90.0),
        *((kinds.SECONDS, text, float(text)) for text in (".5", "5.", " 5 ", "05")),
        (kinds.SECONDS, OwnFloat(0.5), 0.5),
        (kinds.SECONDS, math.inf, math.inf),
        (kinds.SECONDS, Decimal("0.1"), 0.1),
        *((kinds.COUNT, text, 8) for text in ("8", "08", " 8 ")),
        (kinds.BYTES, "1g", 2**30),
        (kinds.BYTES, 5, 5),
        (kinds.BYTES, 2**53 + 1, 2**53 + 1),
        (kinds.MEMORY, "2g", "2g"),
        (kinds.CPUS, 1.5, "1.5"),
        (kinds.DOLLARS, "$2", Decimal(2)),
        (kinds.DOLLARS, {"a": 1, "b": "0.5"}, {"a": Decimal(1), "b": Decimal("0.5")}),
        (kinds.TEXTS, ["a", "b"], ("a", "b")),
        (kinds.TEXTS, {"a": 1}.keys(), ("a",)),
        (kinds.FILES, "a", ("a",)),
        (kinds.FILES, [Path("a"), "b"], ("a", "b")),
        (kinds.ARGUMENTS, ["--n", 3], ("--n", "3")),
        (kinds.ARGUMENTS, {"a": ["x"]}, {"a": ("x",)}),
        (kinds.FOLDER, Path("runs"), "runs"),
        (kinds.KEY, "sk-1", Secret("sk-1")),
        (kinds.SERVICES, {"los": "h:1"}, {"los": "h:1"}),
        (kinds.choice(Literal["x", "y"]), "y", "y"),
    ],
)
def test_a_reader_returns_the_value(kind: OptionKind, given: object, value: object) -> None:
    assert kind.read(given) == value


@each(
    "kind, given",
    [
        *(
            (kinds.SECONDS, wrong)
            for wrong in (0, -1, True, float("nan"), 1e10, 10**400, "9" * 400, "1e3", "inf", "soon", None)
        ),
        *((kinds.COUNT, wrong) for wrong in (0, -1, True, 1.5, 8.0, "1.5", "8x", "", 10**13, "1e3", "٣")),
        *((kinds.BYTES, wrong) for wrong in (0, True, "much", "1gg", 2**63, 1.5)),
        *((kinds.MEMORY, wrong) for wrong in ("much", True, None, "2 gig", "9999999p")),
        *((kinds.SWITCH, wrong) for wrong in (1, "true", None)),
        *((kinds.INSIDE, wrong) for wrong in ("relative", "", "/a:b", "/a\0", 3)),
        *((kinds.FOLDER, wrong) for wrong in ("", 3, b"a", "a\0", "x" * 256, "a/" * 2048)),
        *((kinds.FILES, wrong) for wrong in ({"a": "b"}, b"a", [3], 3)),
        *((kinds.TEXTS, wrong) for wrong in ("one", [1], {"a": "b"}, 3)),
        *((kinds.ARGUMENTS, wrong) for wrong in ("one", {"a": "one"}, {"a": {"b": "c"}}, 3)),
        *((kinds.TEXT, wrong) for wrong in (3, None, "a\0b", "\udcff")),
        (kinds.choice(Literal["x", "y"]), "z"),
    ],
)
def test_a_wrong_value_is_a_value_error(kind: OptionKind, given: object) -> None:
    with pytest.raises(ValueError):
        kind.read(given)


def test_a_mount_is_a_text_or_a_tuple() -> None:
    assert read_mounts([("/h", "/c", "ro"), "/h:/c:ro", ("/h", "/c")]) == ("/h:/c:ro", "/h:/c:ro", "/h:/c")
    with pytest.raises(ValueError):
        read_mounts([("/h",)])


@each("env", [{"A": "x\ny"}, {"A\nB": "x"}, {"": "x"}, {"A=B": "x"}, {"A": "x\0"}])
def test_a_variable_with_a_newline_or_nul_is_an_error_that_does_not_show_its_value(env: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="newlines are not allowed") as caught:
        read_env(env)
    assert "x" not in str(caught.value).split("cannot")[0].replace("the variable", "")


@each("value", ["bytes \udcff", "x" * (VARIABLE_BYTES_MAX - 3), "ü" * (VARIABLE_BYTES_MAX // 2)])
def test_a_value_that_no_program_can_get_is_an_error_that_does_not_show_it(value: str) -> None:
    with pytest.raises(ValueError, match="KEY") as caught:
        read_env({"KEY": value})
    assert value not in str(caught.value)


def test_the_longest_value_that_a_program_can_get_is_allowed() -> None:
    env = {"KEY": "x" * (VARIABLE_BYTES_MAX - 4)}
    assert read_env(env) == env


def test_a_mount_without_a_place_in_the_container_is_an_error() -> None:
    assert read_mounts(["/cache"]) == ("/cache",)
    with pytest.raises(ValueError, match="host:container:mode"):
        read_mounts(["nonsense"])
    with pytest.raises(ValueError, match="host:container:mode"):
        read_mounts(["ab"])


@each("mount, says", [("./a:b", "'./a:b' is not a volume"), ("a:/b:xx", "mode 'xx'"), ("../../:", "is not a volume")])
def test_an_error_names_the_wrong_mount(mount: str, says: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=says):
        read_mounts([mount])


@each("given, value", [("-0.5", -0.5), (0, 0.0), (Decimal("0.8"), 0.8), (OwnFloat(2.5), 2.5), (" 1 ", 1.0)])
def test_a_number_may_be_below_zero_and_is_not_infinite(given: object, value: float) -> None:
    assert kinds.NUMBER.read(given) == value


@each("given", [True, math.inf, "nan", "high", None, [1]])
def test_what_is_no_number_is_refused_in_words(given: object) -> None:
    with pytest.raises(ValueError, match=r"^score_pass is a number(, not .*)?\.$"):
        kinds.read_value(kinds.NUMBER, given, "score_pass")


def test_tags_are_few_short_lines_by_name() -> None:
    assert kinds.TAGS.read({"task": "refactor", "round": 3}) == {"task": "refactor", "round": "3"}
    for wrong in ({str(number): "x" for number in range(17)}, {"a b": "x"}, {"a": "x\ny"}, {"a": "x" * 201}, "task=x"):
        with pytest.raises(ValueError):
            kinds.TAGS.read(wrong)


def test_a_score_is_a_command_line_or_a_function() -> None:
    assert kinds.SCORE.read("echo 1") == "echo 1"
    assert kinds.SCORE.read(print) is print
    for wrong in (" ", ["echo", "1"], 3):
        with pytest.raises(ValueError):
            kinds.SCORE.read(wrong)
