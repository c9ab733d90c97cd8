"""The options of the checks, and what is read once."""

import threading

import pytest

from agent_preflight.checks.inputs import Inputs, Params, as_list, cached, unique


def required(own: Params | None, common: str | list[str] | None, *models: str) -> dict[str, tuple[str, ...]]:
    return Inputs("admin", "key", models, 1.0, required_params=own, common_required_params=common).required


def test_common_parameters_come_first_and_none_is_repeated() -> None:
    assert required({"a": ["t", "u"], "x": ["y"]}, ["u"], "a", "b") == {"a": ("u", "t"), "b": ("u",), "x": ("y",)}


def test_one_text_is_a_list_of_one_parameter() -> None:
    assert required({"a": "seed"}, "tools", "a") == {"a": ("tools", "seed")}


def test_without_parameters_nothing_is_required() -> None:
    assert required(None, None, "a") == {}
    assert required({"a": []}, [], "a") == {}


def test_repeated_models_count_once_and_keep_their_order() -> None:
    assert unique(["b", "a", "b"]) == ("b", "a")


def test_one_text_or_several_are_a_list() -> None:
    assert (as_list("a"), as_list(["a", "b"]), as_list(None)) == (["a"], ["a", "b"], [])


def test_threads_that_need_an_answer_wait_for_one_read() -> None:
    reads: list[int] = []
    gate = threading.Event()

    def read() -> int:
        gate.wait(60)
        reads.append(1)
        return 7

    answer = cached(read)
    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(answer())) for _ in range(5)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(60)
    assert (answers, reads) == ([7] * 5, [1])


def test_a_read_that_raised_is_repeated() -> None:
    outcomes: list[object] = [ValueError("no"), 3]

    def read() -> object:
        outcome = outcomes.pop(0)
        if isinstance(outcome, ValueError):
            raise outcome
        return outcome

    answer = cached(read)
    with pytest.raises(ValueError, match="no"):
        answer()
    assert answer() == 3
