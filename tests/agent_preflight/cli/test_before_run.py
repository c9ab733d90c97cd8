"""`agent-preflight preflight`, `estimate` and `init`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.options.config_file import parse_config
from openrouter_sim import Simulator
from tests.agent_preflight.conftest import Script, ScriptedServer
from tests.support.cli_commands import CommandResult, invoke

NANO, MINI, SONNET = "openai/gpt-4.1-nano", "openai/gpt-4.1-mini", "anthropic/claude-sonnet-4.5"
NAMES = ("OR_ADMIN_KEY", "OPENROUTER_ADMIN_KEY", "OPENROUTER_API_KEY", "PREFLIGHT_MODELS", "PREFLIGHT_BUDGET")
Serve = Callable[[Script], ScriptedServer]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def estimate(*arguments: str, **variables: str) -> CommandResult:
    return invoke("estimate", *arguments, env={**dict.fromkeys(NAMES), **variables})


def figures(*arguments: str, **variables: str) -> list[dict[str, Any]]:
    told = estimate(*arguments, "--json", **variables)
    assert told.stderr == ""
    return [json.loads(line) for line in told.stdout.splitlines()]


@pytest.mark.wire
def test_the_table_needs_no_key_and_spends_nothing(simulator: Simulator) -> None:
    keys = len(simulator.account.keys)
    told = estimate("--model", NANO, "--model", SONNET, "--budget", "$0.08")
    assert (told.exit_code, told.stderr) == (1, "")  # the dear one affords no call
    assert told.stdout.splitlines()[0].split() == [
        "model",
        "budget",
        "one",
        "call",
        "up",
        "to",
        "affords",
        "first",
        "answer",
    ]
    assert max(map(len, told.stdout.splitlines())) <= 80
    assert "raise the budget to $" in " ".join(told.stdout.split())
    assert (list(simulator.requests), len(simulator.account.keys)) == ([], keys)
    assert estimate("--model", NANO).exit_code == 0


@pytest.mark.wire
def test_models_and_budgets_are_those_of_a_run(simulator: Simulator, tmp_path: Path) -> None:
    (tmp_path / "preflight.toml").write_text(
        f'models = ["{NANO}", {{ id = "{NANO}", alias = "rich", budget = 3 }}, "{MINI}=mini"]\nbudget = 0.5\n'
        "expect_tokens = 1000\nbyok = true\n"
        'image = "none"\nprompt_file = "missing.txt"\n[[policies]]\npolicy = "progress"\nwindow_usd = 1\nprogress = "no:such"\n'
    )
    file = figures()
    assert [(each["model"], each["budget_usd"], each["expect_tokens"]) for each in file] == [
        (NANO, "0.5", 1000),
        (NANO, "3", 1000),
        (MINI, "0.5", 1000),
    ]
    variables = figures(PREFLIGHT_MODELS=MINI, PREFLIGHT_BUDGET="0.75")
    assert [(each["model"], each["budget_usd"]) for each in variables] == [(MINI, "0.75")]
    options = figures("--model", f"{NANO}=x", "--budget", "2", "--expect-tokens", "500", PREFLIGHT_MODELS=MINI)
    assert [(each["model"], each["budget_usd"], each["expect_tokens"]) for each in options] == [(NANO, "2", 500)]
    (tmp_path / "other.toml").write_text(f'models = ["{MINI}"]\n')
    other = figures("--config", "other.toml")
    assert [(each["model"], each["budget_usd"], each["expect_tokens"]) for each in other] == [(MINI, "0.25", 20_000)]


@pytest.mark.wire
def test_a_fee_for_keys_of_ones_own_is_counted_where_the_file_allows_them(simulator: Simulator, tmp_path: Path) -> None:
    (plain,) = figures("--model", NANO)
    (tmp_path / "preflight.toml").write_text("byok = true\n")
    (byok,) = figures("--model", NANO)
    assert float(byok["worst_usd"]) > float(plain["worst_usd"])


@pytest.mark.wire
def test_a_smaller_max_tokens_affords_more_calls(simulator: Simulator) -> None:
    (most,), (few,) = figures("--model", NANO), figures("--model", NANO, "--max-tokens", "1000")
    assert (few["bound"], most["calls"] < few["calls"]) == (1000, True)


@pytest.mark.wire
def test_prices_that_cannot_be_read_are_said_and_exit_with_1(serve: Serve) -> None:
    serve(lambda seen: (200, {"data": {}}) if seen.path == "/key" else (429, {}))
    told = estimate("--model", NANO)
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == f"Nothing was estimated: OpenRouter answered 429 for the prices of {NANO}\n"


@pytest.mark.wire
def test_an_openrouter_that_does_not_answer_is_told_once_without_a_table() -> None:
    url = "http://127.0.0.1:1/v1"
    models = ("--model", NANO, "--model", SONNET)
    told = estimate(*models, OPENROUTER_BASE_URL=url)
    assert (told.exit_code, told.stdout) == (1, "")
    said = f"Cannot reach OpenRouter at {url}: connection refused."
    assert told.stderr == f"{said} Check OPENROUTER_BASE_URL and your network. Nothing was spent.\n"
    assert [each["model"] for each in figures(*models, OPENROUTER_BASE_URL=url)] == [NANO, SONNET]


@pytest.mark.wire
def test_what_could_be_read_is_shown_beside_what_could_not(serve: Serve) -> None:
    serve(lambda seen: (404, {}) if NANO in seen.path else (429, {}))
    told = estimate("--model", NANO, "--model", SONNET)
    assert told.exit_code == 1
    assert f"{SONNET}: not estimated: OpenRouter answered 429" in " ".join(told.stdout.split())


@pytest.mark.parametrize(
    "arguments",
    [
        *(("--budget", text) for text in ("x", "0", "-1", "nan", "1e999")),
        *(("--expect-tokens", text) for text in ("0", "-5", "20k", "1.5", "")),
        *(("--max-tokens", text) for text in ("0", "-1", "many", "1e3", "inf")),
    ],
)
def test_what_is_no_figure_is_a_bad_option(arguments: tuple[str, str]) -> None:
    told = estimate("--model", NANO, *arguments)
    assert (told.exit_code, told.stdout) == (2, "")
    assert arguments[0] in told.stderr


def test_without_a_model_it_says_where_to_name_one() -> None:
    told = estimate()
    assert (told.exit_code, told.stdout) == (1, "")
    assert told.stderr == "Name a model with --model, in PREFLIGHT_MODELS, or under `models` in preflight.toml.\n"


def preflight(**variables: str) -> CommandResult:
    env: dict[str, str | None] = {**dict.fromkeys(NAMES), **variables}
    return invoke("preflight", env=env)


def test_variables_are_asked_for_in_order_on_stderr() -> None:
    known: dict[str, str] = {}
    for name, value in [("OR_ADMIN_KEY", "a"), ("OPENROUTER_API_KEY", "k"), ("PREFLIGHT_MODELS", "m/m")]:
        told = preflight(**known)
        assert (told.exit_code, told.stdout) == (1, "")
        assert name in told.stderr
        known[name] = value


def test_a_variable_without_a_value_is_as_good_as_none() -> None:
    told = preflight(OR_ADMIN_KEY="", OPENROUTER_ADMIN_KEY="a", OPENROUTER_API_KEY="")
    assert told.exit_code == 1
    assert "OPENROUTER_API_KEY" in told.stderr


def test_a_budget_that_is_no_number_is_a_sentence() -> None:
    told = preflight(OR_ADMIN_KEY="a", OPENROUTER_API_KEY="k", PREFLIGHT_MODELS="m", PREFLIGHT_BUDGET="much")
    assert told.exit_code == 1
    assert "PREFLIGHT_BUDGET" in told.stderr
    assert "Traceback" not in told.stderr


@pytest.mark.wire
def test_a_failed_check_exits_with_1_and_says_so(simulator: Simulator) -> None:
    told = preflight(
        OR_ADMIN_KEY=simulator.admin_key, OPENROUTER_API_KEY=simulator.inference_key, PREFLIGHT_MODELS="no/such"
    )
    assert told.exit_code == 1
    assert "PREFLIGHT CHECKS" in told.stdout
    assert "PREFLIGHT FAILED (" in told.stdout
    assert told.stderr == "Preflight failed: mend the problem above, then run this again.\n"
    assert "not run: they make test keys" in told.stdout
    assert simulator.admin_key not in told.output
    assert simulator.inference_key not in told.output


@pytest.mark.wire
def test_passed_checks_exit_with_0(simulator: Simulator) -> None:
    told = preflight(
        OPENROUTER_ADMIN_KEY=simulator.admin_key,
        OPENROUTER_API_KEY=simulator.inference_key,
        PREFLIGHT_MODELS="openai/gpt-4.1-nano, openai/gpt-4.1-mini",
    )
    assert told.exit_code == 0, told.output
    assert "2 models x $0.25 = $0.50" in told.stdout
    assert "All preflight checks passed." in told.stdout
    assert all(key.deleted for key in simulator.bill().keys.values() if "smoke" in key.name)


@pytest.mark.wire
def test_an_openrouter_that_cannot_be_reached_is_told_once_with_the_cause_first() -> None:
    told = preflight(
        OR_ADMIN_KEY="a", OPENROUTER_API_KEY="k", PREFLIGHT_MODELS="m/m", OPENROUTER_BASE_URL="http://127.0.0.1:1/v1"
    )
    assert told.exit_code == 1
    said = "Cannot reach OpenRouter at http://127.0.0.1:1/v1: connection refused."
    assert told.stderr == "Preflight failed: mend the problem above, then run this again.\n"
    assert "PREFLIGHT FAILED (1 issue):" in told.stdout
    assert told.stdout.count(f"x {said} Check OPENROUTER_BASE_URL and your network. Nothing was spent.\n") == 1
    assert told.output.count("connection refused") == 2
    assert "m/m" not in told.output


@pytest.mark.wire
def test_several_failures_are_not_told_again_below_the_report(simulator: Simulator) -> None:
    told = preflight(OR_ADMIN_KEY="a", OPENROUTER_API_KEY="k", PREFLIGHT_MODELS="openai/gpt-41-nano")
    assert (told.exit_code, told.stderr) == (1, "Preflight failed: mend the 3 problems above, then run this again.\n")
    for said in ("OpenRouter refuses the management key (401: ", "OpenRouter refuses the inference key (401: "):
        assert told.stdout.count(said) == 1
    assert "did you mean openai/gpt-4.1-nano, " in told.stdout
    assert not any(key.name.startswith("agent-preflight:") for key in simulator.bill().keys.values())


def test_a_file_is_written_that_run_understands_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "preflight.toml"
    first = invoke("init", str(path))
    assert (first.exit_code, parse_config(path.read_text())["image_name"]) == (0, "my-agent")
    path.write_text("mine")
    second = invoke("init", str(path))
    assert (second.exit_code, path.read_text()) == (1, "mine")
    assert "stays as it is" in second.output


def test_a_folder_that_is_not_there_is_said_in_a_line(tmp_path: Path) -> None:
    result = invoke("init", str(tmp_path / "no" / "preflight.toml"))
    assert result.exit_code == 1
    assert "cannot be written" in result.output
