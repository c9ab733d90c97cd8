"""The tables of `costs`, at 80 columns."""

from typing import Any

from agent_preflight.base.tables import text_of
from agent_preflight.operate.cost_tables import cost_parts, reconciled_parts
from agent_preflight.runs.reconciliation import ReconciledAccount, Reconciliation
from preflight_proxy.core.ledger.rows import QuarantinedEndpoint

CENT = 10**10


def line(account: str, cost_usd: str, **more: Any) -> dict[str, Any]:
    return {
        "time": "2027-01-31T12:00:07.123Z", "account": account, "model": "openai/gpt-4.1-nano", "prompt_tokens": 1234,
        "completion_tokens": 56, "cost_usd": cost_usd, "outcome": "posted", **more,
    }  # fmt: skip


def lines_of(*lines: dict[str, Any], width: int = 80) -> list[str]:
    return text_of(*cost_parts("run-1", lines), width=width).splitlines()


def test_every_call_and_the_sums_with_as_many_decimals_as_the_smallest_needs() -> None:
    assert lines_of(line("nano", "0.0000071"), line("sonnet", "0.12")) == [
        "Costs of run-1, 2027-01-31 (UTC)",
        "",
        "time      trial   model                   in  out        cost",
        "12:00:07  nano    openai/gpt-4.1-nano  1,234   56  $0.0000071",
        "12:00:07  sonnet  openai/gpt-4.1-nano  1,234   56  $0.1200000",
        "",
        "trial   calls        cost",
        "nano        1  $0.0000071",
        "sonnet      1  $0.1200000",
        "TOTAL       2  $0.1200071",
    ]


def test_what_is_no_usual_call_is_reported() -> None:
    told = lines_of(line("a", "0.5"), line("a", "-0.25", outcome="adjusted", prompt_tokens=None))
    assert told[2].split()[-2:] == ["cost", "outcome"]
    assert told[4].split()[-3:] == ["56", "-$0.25", "adjusted"]
    assert told[-1].split() == ["TOTAL", "1", "$0.25"]


def test_calls_of_several_days_tell_the_day() -> None:
    told = lines_of(line("a", "1"), line("a", "1", time="2027-02-01T00:00:01.000Z"))
    assert told[0] == "Costs of run-1, 2027-01-31 to 2027-02-01 (UTC)"
    assert told[4].startswith("02-01 00:00:01  a")


def test_a_narrow_table_does_without_the_model_then_without_the_time_and_cuts_no_cost() -> None:
    dear = line("claude-sonnet-4-5-thinking", "12.345678901234", model="anthropic/claude-sonnet-4.5", outcome="assumed")
    for width in range(64, 140):
        told = lines_of(dear, width=width)
        assert max(map(len, told)) <= width
        assert "\n".join(told).count("$12.345678901234") == 3
    assert "anthropic" not in "\n".join(lines_of(dear))


def test_what_others_wrote_does_not_reach_the_terminal_as_an_escape() -> None:
    told = lines_of(line("a\x1b[31m", "1", model="m\x1b]0;x\x07\nn", outcome="\x1b[2J", time="\x1b[5m"))
    assert "\x1b" not in "".join(told)


def test_a_run_without_calls_says_so() -> None:
    assert lines_of() == ["Costs of run-1: no calls yet."]


def row(account: str, upstream_pusd: int | None = CENT, **more: Any) -> ReconciledAccount:
    return ReconciledAccount(account, CENT, CENT, upstream_pusd=upstream_pusd, **more)


def test_the_comparison_names_every_account_the_sum_and_what_is_quarantined() -> None:
    found = Reconciliation(
        (row("left", CENT - 5 * 10**8, assumed_pusd=10**9), row("right", None, pending_pusd=1)),
        (QuarantinedEndpoint("m/x", "tag", "overrun\x1b[31m", 0.0),),
    )
    assert text_of(*reconciled_parts(found)).splitlines() == [
        "trial   posted  OpenRouter  difference",
        "left   $0.0100     $0.0095    -$0.0005",
        "right  $0.0100           -           -",
        "TOTAL  $0.0200           -           -",
        "left: balances with what is pending, assumed, or posted within the figure's lag;",
        "$0.001 assumed",
        "right: no figure: the key is shared, or is not to be read; $0.000000000001",
        "pending",
        "TOTAL: no figure: the key is shared, or is not to be read; $0.000000000001",
        "pending; $0.001 assumed",
        "",
        "quarantined: m/x on tag: overrun",
        "Up to $0.000001 for each trial is rounding; OpenRouter's figure for a key",
        "may lack calls of the last 60 s before it was read.",
    ]
