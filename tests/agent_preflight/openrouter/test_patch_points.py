"""A script may replace four of our functions."""

from unittest.mock import Mock

import pytest

import agent_preflight
from agent_preflight.openrouter.patch_points import read, replacement


def get_usage(api_key: str, *, base_url: str | None = None) -> float | None:
    return None if base_url is None else 1.0


def test_without_a_replacement_our_function_is_called_with_the_base_url() -> None:
    assert replacement(get_usage) is None
    assert read(get_usage, "key", "http://x") == 1.0


def test_a_replacement_is_called_with_the_key_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_preflight, "get_usage", lambda key: 7.0, raising=False)
    assert replacement(get_usage) is not None
    assert read(get_usage, "key", "http://x") == 7.0


def test_an_assigned_value_that_cannot_be_called_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (None, 5, get_usage):
        monkeypatch.setattr(agent_preflight, "get_usage", value, raising=False)
        assert replacement(get_usage) is None


def test_a_stand_in_without_a_name_in_our_module_is_called() -> None:
    """Tests of scripts put one into `agent_preflight.provision`, with `unittest.mock.patch`."""
    stand_in = Mock(return_value=3.0)
    assert replacement(stand_in) is None
    assert read(stand_in, "key", None) == 3.0
