"""What checks are told, merged and asked for once."""

import threading

import pytest

from agent_preflight.checks.inputs import Once, merge_required, unique


def test_common_parameters_come_first_and_nothing_twice() -> None:
    assert merge_required(["a", "b"], {"a": ["t", "u"], "x": ["y"]}, ["u"]) == {
        "a": ("u", "t"),
        "b": ("u",),
        "x": ("y",),
    }


def test_one_text_is_a_list_of_one_not_of_letters() -> None:
    assert merge_required(["a"], {"a": "seed"}, "tools") == {"a": ("tools", "seed")}


def test_nothing_required_is_nothing() -> None:
    assert merge_required(["a"], None, None) == {}
    assert merge_required(["a"], {"a": []}, []) == {}


def test_models_are_taken_once_in_order() -> None:
    assert unique(["b", "a", "b"]) == ("b", "a")


def test_something_is_asked_for_once_however_many_need_it() -> None:
    asked: list[int] = []
    gate = threading.Event()

    def ask() -> int:
        gate.wait(60)
        asked.append(1)
        return 7

    once = Once(ask)
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

    once = Once(ask)
    with pytest.raises(ValueError, match="no"):
        once()
    assert once() == 3
