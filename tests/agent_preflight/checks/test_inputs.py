"""What checks are told, merged and asked for once."""

import threading

import pytest

from agent_preflight.checks.inputs import CachedAnswer, Inputs, Params, unique


def required(own: Params | None, common: str | list[str] | None, *models: str) -> dict[str, tuple[str, ...]]:
    return Inputs("admin", "key", models, 1.0, required_params=own, common_required_params=common).required


def test_common_parameters_come_first_and_each_once() -> None:
    assert required({"a": ["t", "u"], "x": ["y"]}, ["u"], "a", "b") == {"a": ("u", "t"), "b": ("u",), "x": ("y",)}


def test_one_text_is_a_list_of_one_parameter() -> None:
    assert required({"a": "seed"}, "tools", "a") == {"a": ("tools", "seed")}


def test_without_parameters_nothing_is_required() -> None:
    assert required(None, None, "a") == {}
    assert required({"a": []}, [], "a") == {}


def test_models_are_taken_once_in_order() -> None:
    assert unique(["b", "a", "b"]) == ("b", "a")


def test_something_is_asked_for_once_however_many_need_it() -> None:
    asked: list[int] = []
    gate = threading.Event()

    def ask() -> int:
        gate.wait(60)
        asked.append(1)
        return 7

    once = CachedAnswer(ask)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(once())) for _ in range(5)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(60)
    assert (answers, asked) == ([7] * 5, [1])


def test_a_question_that_raised_is_asked_again() -> None:
    outcomes: list[object] = [ValueError("no"), 3]

    def ask() -> object:
        outcome = outcomes.pop(0)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    once = CachedAnswer(ask)
    with pytest.raises(ValueError, match="no"):
        once()
    assert once() == 3
