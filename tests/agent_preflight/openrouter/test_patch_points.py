"""A script may put its own function in the place of four of ours."""

import pytest

import agent_preflight
from agent_preflight.openrouter.patch_points import in_force, is_replaced


def get_usage(api_key: str) -> float | None:
    return 1.0


def test_without_a_replacement_the_function_itself_is_in_force() -> None:
    assert in_force(get_usage) is get_usage
    assert not is_replaced(get_usage)


def test_what_a_script_assigns_to_the_package_is_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_preflight, "get_usage", lambda key: 7.0, raising=False)
    assert in_force(get_usage)("key") == 7.0
    assert is_replaced(get_usage)


def test_what_cannot_be_called_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_preflight, "get_usage", None, raising=False)
    assert in_force(get_usage) is get_usage
