"""The sentences of a run: short, in plain words, and carried by its figures."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from agent_preflight.base.usd import pusd
from agent_preflight.figures.answer import Sentence, text_of
from agent_preflight.figures.run_figures import table_figures
from agent_preflight.runs.record import RunRecord
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint
from tests.support.cases import each
from tests.support.records import BEGUN_S, CENT, a_call, a_field, a_run, a_trial

Costs = Mapping[str, Sequence[int]]
Scores = Mapping[str, Sequence[float | bool | None]]


def answer(record: RunRecord) -> str:
    return text_of(table_figures(record, BEGUN_S + 100).answer)


def spent(record: RunRecord) -> str:
    return text_of(table_figures(record, BEGUN_S + 100).spent)


def strong(sentences: Sequence[Sentence]) -> list[str]:
    return [text for sentence in sentences for text, is_strong in sentence if is_strong]


NANO = {"nano": [pusd("0.0021")] * 3}
THREE = {**NANO, "haiku": [pusd("0.0811")] * 3, "sonnet": [pusd("0.2384")] * 3}


@each(
    "costs, scores, sentences",
    [
        (
            THREE,
            {"nano": [0.0, 1.0, 1.0], "haiku": [1.0, 1.02, 1.04], "sonnet": [1.01, 1.03, 1.05]},
            (
                "nano is the best for the dollar: $0.0032 for each success. "
                "The scores cannot be told apart; nano costs less than 1 % of sonnet."
            ),
        ),
        (
            THREE,
            {"nano": [0.5, 1.0, 0.7], "haiku": [2.3, 2.32, 2.34], "sonnet": [2.31, 2.33, 2.35]},
            (
                "nano is the best for the dollar: $0.0063 for each success. "
                "sonnet and haiku score highest and cannot be told apart; haiku costs a third of sonnet."
            ),
        ),
        (
            {"nano": [CENT] * 2, "haiku": [3 * CENT] * 2},
            {"nano": [0.9, 0.91], "haiku": [2.0, 2.01]},
            "haiku is the best for the dollar: $0.0300 for each success. It scores highest too, 2.00.",
        ),
        (
            {"nano": [CENT] * 2, "haiku": [3 * CENT] * 2},
            {"nano": [1.0, 1.01], "haiku": [2.0, 2.01]},
            "nano is the best for the dollar: $0.0100 for each success. haiku scores highest, 2.00.",
        ),
        (
            {"nano": [CENT], "haiku": [3 * CENT]},
            {"nano": [1.0], "haiku": [2.0]},
            (
                "nano is the best for the dollar: $0.0100 for each success. haiku scores highest, 2.00. "
                "One trial each tells little: more repeats tell more."
            ),
        ),
        (
            {"a": [CENT], "b": [CENT], "c": [CENT]},
            {"a": [1.0], "b": [1.0], "c": [0.5]},
            (
                "a and b are the best for the dollar: $0.0100 for each success. a and b score highest and cannot be told apart. "
                "One trial each tells little: more repeats tell more."
            ),
        ),
        (
            {"nano": [CENT, CENT], "haiku": [CENT, CENT]},
            {"nano": [0.1, 0.1], "haiku": [0.4, 0.4]},
            "No trial succeeded. haiku scores highest, 0.40.",
        ),
        (
            {"nano": [CENT, CENT, CENT]},
            {"nano": [True, True, False]},
            "nano succeeded in 2 of 3 trials: $0.0150 for each success.",
        ),
        (
            {"nano": [CENT, CENT], "haiku": [CENT, CENT]},
            {"nano": [None, None], "haiku": [1.0, None]},
            "haiku is the best for the dollar: $0.0200 for each success. 3 trials have no score.",
        ),
        ({"nano": [CENT], "haiku": [CENT]}, {"nano": [None], "haiku": [None]}, "2 trials have no score."),
    ],
)
def test_scores_say_who_is_best_for_the_dollar_and_who_scores_highest(
    costs: Costs, scores: Scores, sentences: str
) -> None:
    assert answer(a_field(costs, scores)) == sentences


@each(
    "least, most, words",
    [
        *[(5, 10, "half"), (1, 3, "a third"), (34, 100, "a third"), (1, 4, "a quarter"), (2, 3, "two thirds")],
        *[(36, 100, "36 %"), (9, 10, "90 %"), (1, 10, "a tenth"), (1, 100, "1 %"), (1, 101, "less than 1 %")],
    ],
)
def test_how_much_less_a_model_costs_is_a_word_only_where_it_is_true(least: int, most: int, words: str) -> None:
    record = a_field({"a": [least] * 2, "b": [most] * 2}, {"a": [True, False], "b": [True, True]})
    assert answer(record).endswith(f"The scores cannot be told apart; a costs {words} of b.")


def test_a_model_with_one_score_among_others_with_more_is_named() -> None:
    record = a_field({"a": [CENT] * 2, "b": [CENT] * 2}, {"a": [1.0, 1.0], "b": [0.5, None]})
    assert answer(record).endswith("b has one score only, which tells little. 1 trial has no score.")


def test_models_that_cost_the_same_are_not_compared() -> None:
    record = a_field({"a": [999, 999], "b": [1000, 1000]}, {"a": [True, False], "b": [True, True]})
    assert answer(record).endswith("The scores cannot be told apart.")


def test_names_are_strong_and_nothing_else() -> None:
    record = a_field(THREE, {"nano": [0.5, 1.0, 0.7], "haiku": [2.3, 2.32, 2.34], "sonnet": [2.31, 2.33, 2.35]})
    assert strong(table_figures(record, BEGUN_S).answer) == ["nano", "sonnet", "haiku"]


def test_without_scores_it_says_who_spent_what_and_how_the_trials_ended() -> None:
    calls = [a_call("nano", CENT), a_call("haiku", 3 * CENT), a_call("sonnet", 9 * CENT)]
    trials = [a_trial("nano", calls), a_trial("haiku", calls), a_trial("sonnet", calls, status="spent")]
    assert answer(a_run(*trials, calls=calls)) == (
        "sonnet spent the most, $0.0900, and nano the least, $0.0100. Of 3 trials: 2 done, 1 spent."
    )
    assert answer(a_field({"nano": [CENT]})) == "nano spent $0.0100. Of 1 trial: 1 done."
    assert answer(a_run(a_trial("a", has_ledger=False))) == "What the trials cost is not known. Of 1 trial: 1 done."


def test_a_live_run_says_so_far() -> None:
    calls = [a_call("a", CENT)]
    record = a_run(a_trial("a", calls), a_trial("b", status="running"), calls=calls, live=True)
    assert answer(record).startswith("So far, with 1 of 2 trials ended: a spent the most")


def test_a_run_without_trials_has_no_answer() -> None:
    assert answer(a_run()) == "No trial has started."


def test_a_success_whose_cost_is_unknown_is_not_the_best() -> None:
    known = a_field({"nano": [CENT]}, {"nano": [1.0]}).trials[0]
    unknown = a_trial("old", has_ledger=False, score=known.score)
    assert answer(a_run(unknown)) == "What a success cost is not known. old succeeded."
    record = a_run(known, unknown, calls=[a_call("nano", CENT)])
    assert answer(record).startswith(
        "nano is the best for the dollar: $0.0100 for each success. old succeeded too, at a cost that is not known."
    )


@each(
    "usage_usd, agreement",
    [
        ("0.01", "Our ledger and OpenRouter's keys agree to the last digit."),
        ("0.0100005", "Our ledger and OpenRouter's keys agree up to rounding."),
        ("0.02", "Our ledger and OpenRouter's keys differ by $0.01 (a)."),
        ("0.005", "Our ledger and OpenRouter's keys differ by -$0.005 (a)."),
        (None, "OpenRouter's figures for the keys are not known."),
    ],
)
def test_what_was_spent_stands_beside_whether_openrouter_agrees(usage_usd: str | None, agreement: str) -> None:
    calls = [a_call("a", CENT)]
    assert (
        spent(a_run(a_trial("a", calls, key_usage_usd=usage_usd), calls=calls)) == f"$0.0100 spent in all. {agreement}"
    )


def test_an_agreement_says_what_explains_a_difference_and_which_figures_are_missing() -> None:
    calls = [a_call("a", CENT)]
    trials = [a_trial("a", calls, pending_pusd=CENT, key_usage_usd="0.015"), a_trial("b")]
    assert spent(a_run(*trials, calls=calls)) == (
        "$0.0100 spent in all; $0.0100 more is reserved. Our ledger and OpenRouter's keys agree, but for calls that are pending, "
        "assumed or very recent. The key's figure is not known for 1 trial."
    )


def test_figures_of_trials_that_go_on_are_not_known_yet() -> None:
    calls = [a_call("a", CENT)]
    running = a_trial("b", status="running")
    assert spent(a_run(running, live=True)).endswith("OpenRouter's figures for the keys are not known yet.")
    record = a_run(a_trial("a", calls, key_usage_usd="0.01"), running, calls=calls, live=True)
    assert spent(record).endswith("agree to the last digit. The key's figure is not known yet for 1 trial.")


def test_entries_that_do_not_add_up_are_a_difference() -> None:
    calls = [a_call("a", CENT)]
    record = a_run(a_trial("a", calls, key_usage_usd="0.01"), calls=[a_call("a", CENT), a_call("a", 1)])
    assert "differ" in spent(record)


@pytest.mark.parametrize("more", [{}, {"quarantined": (QuarantinedEndpoint("m/x", "t", "billed too much", 0.0),)}])
def test_without_a_ledger_the_costs_that_are_not_known_are_counted(more: dict[str, Any]) -> None:
    assert spent(a_run(a_trial("a", has_ledger=False), **more)) == (
        "What was spent in all is not known. There is no ledger to compare with OpenRouter's keys."
    )
