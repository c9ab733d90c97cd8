"""Readers whose errors name the wrong part: mounts and variables. The others are tested with the kinds that they read."""

import pytest

from agent_preflight.options.readers import VARIABLE_BYTES_MAX, check_env, mount_args
from preflight_proxy.core.errors import ConfigError
from tests.support.cases import each


def test_mounts_in_both_spellings_are_the_same() -> None:
    assert mount_args([("/h", "/c", "ro"), "/h:/c:ro", ("/h", "/c")]) == ("/h:/c:ro", "/h:/c:ro", "/h:/c")
    with pytest.raises(ValueError):
        mount_args([("/h",)])


@each("env", [{"A": "x\ny"}, {"A\nB": "x"}, {"": "x"}, {"A=B": "x"}, {"A": "x\0"}])
def test_a_variable_that_would_break_out_is_refused_without_showing_its_value(env: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="newlines are not allowed") as caught:
        check_env(env)
    assert "x" not in str(caught.value).split("cannot")[0].replace("the variable", "")


@each("value", ["bytes \udcff", "x" * (VARIABLE_BYTES_MAX - 3), "ü" * (VARIABLE_BYTES_MAX // 2)])
def test_a_value_that_no_program_can_get_is_refused_without_being_shown(value: str) -> None:
    with pytest.raises(ValueError, match="KEY") as caught:
        check_env({"KEY": value})
    assert value not in str(caught.value)


def test_the_longest_value_that_a_program_can_get_is_passed() -> None:
    env = {"KEY": "x" * (VARIABLE_BYTES_MAX - 4)}
    assert check_env(env) == env


def test_a_mount_that_says_nothing_of_a_place_is_refused() -> None:
    assert mount_args(["/cache"]) == ("/cache",)
    with pytest.raises(ValueError, match="host:container:mode"):
        mount_args(["nonsense"])
    with pytest.raises(ValueError, match="host:container:mode"):
        mount_args(["ab"])


@each("mount, says", [("./a:b", "'./a:b' is not a volume"), ("a:/b:xx", "mode 'xx'"), ("../../:", "is not a volume")])
def test_a_wrong_mount_is_named(mount: str, says: str) -> None:
    with pytest.raises((ValueError, ConfigError), match=says):
        mount_args([mount])
