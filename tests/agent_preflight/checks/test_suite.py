"""Preflight as a script sees it: what is checked, what is printed, what is raised."""

import io
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

import agent_preflight
from agent_preflight import InfraCheck, InfraResult, PreflightError, preflight
from agent_preflight.checks.report import failed
from agent_preflight.checks.suite import BUILT_IN
from openrouter_sim import Simulator
from tests.agent_preflight.conftest import Script, ScriptedServer, Seen
from tests.support.scripted_engine import ScriptedEngine

Serve = Callable[[Script], ScriptedServer]

MODELS: dict[str, dict[str, Any]] = {
    "a/b": {"pricing": {"prompt": "0.000001", "completion": "0.000002"}, "supported_parameters": ["tools", "seed"]},
    "c/d": {"pricing": {"prompt": "gratis", "completion": None}},
}


class Account:
    """Replacements for our readers, which record their calls."""

    def __init__(self) -> None:
        self.balance: tuple[float | None, float | None, float | None] = (5.0, 10.0, 5.0)
        self.models: dict[str, dict[str, Any]] | None = MODELS
        self.reads: list[str] = []

    def get_balance(self, api_key: str) -> tuple[float | None, float | None, float | None]:
        self.reads.append(f"balance {api_key}")
        return self.balance

    def get_models(self, api_key: str) -> dict[str, dict[str, Any]] | None:
        self.reads.append(f"models {api_key}")
        return self.models


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    account = Account()
    monkeypatch.setattr(agent_preflight, "get_account_balance", account.get_balance)
    monkeypatch.setattr(agent_preflight, "get_available_models", account.get_models)
    return account


def check(*names: str, models: tuple[str, ...] = ("a/b",), budget: float = 0.5, **options: Any) -> list[str]:
    options.setdefault("raise_on_failure", False)
    return preflight("admin", "key", list(models), budget, checks=list(names), **options)


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.startswith("  [")]


def test_lists_and_models_that_are_missing_are_reported_in_the_known_words(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.balance, account.models = (None, None, None), None
    check("balance", "models", "tool_support", common_required_params=["tools"])
    account.models = MODELS
    check("models", "tool_support", models=("n/n",), common_required_params=["tools"])
    assert lines(capsys) == [
        "  [x] Account balance  could not fetch",
        "  [x] Model availability  could not fetch model list",
        "  [x] Parameter support  could not fetch model list",
        "  [x] Model n/n  not found on OpenRouter",
        "  [x] Params n/n  model not found on OpenRouter",
    ]


def test_the_report_has_its_known_form(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("balance", "math", "models") == []
    assert (
        capsys.readouterr().out
        == f"""
  {"=" * 60}
  PREFLIGHT CHECKS
  {"=" * 60}
  [v] Account balance  $5.00 available ($10.00 purchased, $5.00 used)
  [v] Provisioning budget  1 model x $0.50 = $0.50 (OK: balance $5.00)
  [v] Model a/b  $1.00/$2.00 per M tokens in/out

  All preflight checks passed.

"""
    )


def test_failures_are_listed_returned_and_raised(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    account.balance = (0.05, 1.0, 0.95)
    expected = ["Account balance too low ($0.05)", "Insufficient balance: need $0.50, have $0.05"]
    assert check("balance", "math") == expected
    assert capsys.readouterr().out.endswith(
        "\n  PREFLIGHT FAILED (2 issues):\n"
        "    x Account balance too low ($0.05)\n    x Insufficient balance: need $0.50, have $0.05\n\n"
    )
    with pytest.raises(PreflightError) as caught:
        check("balance", "math", raise_on_failure=True)
    assert str(caught.value) == f"Preflight failed (2 issue(s)): {expected[0]}\n  {expected[1]}"
    assert caught.value.failures == expected
    assert "PREFLIGHT FAILED" in capsys.readouterr().out


def test_the_order_of_the_report_is_fixed(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    check("models", "math", "balance")
    assert [line[6:].split("  ")[0] for line in lines(capsys)] == [
        "Account balance", "Provisioning budget", "Model a/b",
    ]  # fmt: skip


def test_balance_and_models_are_read_once(account: Account) -> None:
    check("balance", "math", "models", "tool_support", common_required_params=["tools"])
    assert sorted(account.reads) == ["balance admin", "models key"]


def test_nothing_is_read_that_no_check_needs(account: Account) -> None:
    check("models")
    assert account.reads == ["models key"]
    account.reads.clear()
    check()
    assert account.reads == []


def test_the_balance_is_read_with_the_admin_key_then_with_the_inference_key(account: Account) -> None:
    account.balance = (None, None, None)
    assert check("balance") == ["Could not fetch account balance"]
    assert account.reads == ["balance admin", "balance key"]


def test_an_unknown_balance_is_a_warning_for_the_sum_of_budgets(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    account.balance = (None, None, None)
    assert check("math") == []
    assert lines(capsys) == ["  [!] Provisioning budget  1 model x $0.50 = $0.50 (balance unknown)"]


def test_a_balance_of_exactly_what_is_needed_is_enough(account: Account) -> None:
    account.balance = (0.3, 1.0, 0.7)
    assert check("math", models=("a", "b", "c"), budget=0.1) == []


def test_models_are_counted_once(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    check("math", "models", models=("a/b", "a/b"))
    assert "1 model x" in lines(capsys)[0]


def test_a_model_that_is_not_listed_fails(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("models", models=("a/b", "no/no")) == ["Model no/no not on OpenRouter"]


def test_without_the_list_of_models_both_checks_fail(account: Account) -> None:
    account.models = None
    assert check("models", "tool_support", common_required_params=["t"]) == [
        "Could not fetch model list from OpenRouter",
        "Could not fetch model list from OpenRouter for parameter support",
    ]


def test_a_model_with_a_suffix_is_found_with_its_price(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("models", models=("a/b:online", "a/b:free")) == []
    assert lines(capsys) == [
        "  [v] Model a/b:online  $1.00/$2.00 per M tokens in/out",
        "  [!] Model a/b:free  no free variant is listed; its base model is",
    ]


def test_a_price_that_is_not_a_number_does_not_end_the_check(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check("models", models=("c/d", "a/b")) == []
    assert lines(capsys)[0] == "  [v] Model c/d  no fixed price/no fixed price per M tokens in/out"


def test_a_missing_required_parameter_fails(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    failures = check(
        "tool_support",
        models=("a/b", "no/no"),
        required_params={"a/b": ["seed", "zip", "zap"], "c/d": ["x"]},
        common_required_params=["tools"],
    )
    assert failures == [
        "Model a/b missing required params: zip, zap",
        "Model no/no not on OpenRouter for parameter support check",
        "Model c/d missing required params: x",
    ]


def test_required_parameters_may_be_one_text(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("tool_support", required_params={"a/b": "seed"}, common_required_params="tools") == []
    assert lines(capsys) == ["  [v] Params a/b  supports tools, seed"]


def test_without_required_parameters_the_check_only_warns(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("tool_support") == []
    assert lines(capsys)[0].startswith("  [!] Parameter support")


def test_an_unknown_check_is_named(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert check("balence") == []
    assert lines(capsys)[0].startswith("  [!] Unknown check 'balence'  not run; known are balance, math, ")


def test_an_empty_list_runs_only_the_checks_of_the_script(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(custom_checks=[lambda: ("mine", True, "fine")]) == []
    assert lines(capsys) == ["  [v] mine  fine"]


def test_model_names_are_printed_without_control_characters(
    account: Account, capsys: pytest.CaptureFixture[str]
) -> None:
    check("models", models=("x/\x1b[2Jy",))
    assert "\x1b" not in capsys.readouterr().out


class Service(InfraCheck):
    def __init__(self, result: InfraResult) -> None:
        self._result = result

    @property
    def name(self) -> str:
        return "service"

    def check(self) -> InfraResult:
        return self._result


def test_all_checks_of_a_script_run_in_order(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    def boom() -> tuple[str, bool, str]:
        raise ValueError("boom")

    failures = check(
        custom_checks=[boom, lambda: ("warn", None, "hm"), lambda: ("bad", False, "no")],
        infra=[
            Service(InfraResult(ok=False, detail="down", hint="start it")),
            Service(InfraResult(ok=True, detail="up")),
        ],
    )
    assert failures == ["Custom check boom raised: boom", "bad: no", "service: down -> start it"]
    assert lines(capsys)[1:] == [
        "  [!] warn  hm",
        "  [x] bad  no",
        "  [x] service  down -> start it",
        "  [v] service  up",
    ]


def test_a_custom_check_gets_the_options_the_balance_and_the_models(account: Account) -> None:
    contexts: list[dict[str, Any]] = []

    def look(context: dict[str, Any]) -> tuple[str, bool, str]:
        contexts.append(context)
        return "look", True, ""

    check("math", custom_checks=[look, look], docker_image="img", required_params={"a/b": ["tools"]})
    assert contexts[0] == {
        "admin_key": "admin", "or_key": "key", "models": ["a/b"], "budget_per_model": 0.5, "checks": ["math"],
        "docker_image": "img", "site_name": "agent-preflight", "required_params": {"a/b": ["tools"]},
        "balance": 5.0, "available_models": MODELS,
    }  # fmt: skip
    assert contexts[0] is not contexts[1]
    assert sorted(account.reads) == ["balance admin", "models key"]


def test_a_read_that_raises_fails_its_check_and_the_others_run(
    account: Account, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: str) -> None:
        raise OSError("broken pipe")

    monkeypatch.setattr(agent_preflight, "get_account_balance", fail)
    assert check("balance", "models") == ["Account balance: broken pipe"]
    assert lines(capsys)[1].startswith("  [v] Model a/b")


def test_independent_checks_run_side_by_side(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reader waits for the other, so checks one after another would time out."""
    barrier = threading.Barrier(2, timeout=60)

    def balance(_: str) -> tuple[float, float, float]:
        barrier.wait()
        return 5.0, 10.0, 5.0

    def models(_: str) -> dict[str, dict[str, Any]]:
        barrier.wait()
        return MODELS

    monkeypatch.setattr(agent_preflight, "get_account_balance", balance)
    monkeypatch.setattr(agent_preflight, "get_available_models", models)
    assert check("balance", "models") == []


@pytest.mark.wire
def test_an_image_on_this_machine_passes(docker_host: ScriptedEngine, capsys: pytest.CaptureFixture[str]) -> None:
    docker_host.state.images["img"] = {"Id": "sha256:img", "Created": "2026-01-02T03:04:05.123456789Z"}
    assert check("docker_image", docker_image="img") == []
    assert lines(capsys) == ["  [v] Docker image 'img'  created 2026-01-02T03:04:05Z"]


@pytest.mark.wire
def test_a_missing_image_fails(docker_host: ScriptedEngine) -> None:
    assert check("docker_image", docker_image="img") == ["Docker image 'img' not found"]


@pytest.mark.wire
def test_without_docker_the_other_checks_are_reported(
    account: Account, no_engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (failure,) = check("docker_image", "balance", docker_image="img")
    assert failure.startswith("Docker image 'img': looking for ")
    assert f"no Docker engine answers at {no_engine}" in failure
    assert "PREFLIGHT FAILED (1 issue)" in capsys.readouterr().out


def test_without_an_image_name_the_image_check_has_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert check("docker_image") == []
    assert lines(capsys) == []


def names_of_keys(simulator: Simulator) -> list[str]:
    return [info.name for info in agent_preflight.provision.list_keys(simulator.admin_key)]


@pytest.mark.wire
def test_the_default_checks_pass_and_leave_no_key(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    before = names_of_keys(simulator)
    models = ["anthropic/claude-sonnet-4.5", "openai/gpt-4.1-nano"]
    failures = preflight(
        simulator.admin_key, simulator.inference_key, models, 6.5, common_required_params=["max_tokens"]
    )
    out = lines(capsys)
    assert failures == []
    assert [line[2:5] for line in out] == ["[v]"] * len(out)
    assert [line[6:].split("  ")[0] for line in out] == [
        "Account balance", "Provisioning budget", f"Model {models[0]}", f"Model {models[1]}",
        f"Calls in the budget {models[0]}", f"Calls in the budget {models[1]}",
        f"Params {models[0]}", f"Params {models[1]}", "Inference key",
        "Key provisioning (1¢ smoke)", "Prompt caching",
    ]  # fmt: skip
    assert "  [v] Key provisioning (1¢ smoke)  a test key was made and used for one call" in out
    assert names_of_keys(simulator) == before
    assert simulator.admin_key[:12] not in "".join(out)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_report_has_colours_on_a_terminal_only(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, taken = Terminal(), list[str]()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", terminal)
    check("balance", log_fn=taken.append)
    assert (terminal.getvalue(), any("\x1b" in line for line in taken)) == ("", False)
    check("balance")
    assert "  [\x1b[32mv\x1b[0m] Account balance" in terminal.getvalue()


@pytest.mark.wire
def test_a_stated_prompt_size_above_the_budget_fails_before_a_key_is_made(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the statement the same budget is a warning."""
    model = "anthropic/claude-sonnet-4.5"
    assert check_with(simulator, "estimate", models=(model,)) == []
    assert lines(capsys)[0].startswith(f"  [!] Calls in the budget {model}  $0.25 affords 1 call of 20,000 prompt")
    with pytest.raises(PreflightError, match="affords no call of 90,000 prompt tokens"):
        preflight(simulator.admin_key, "", [model], 0.25, checks=["estimate"], expect_tokens=90_000)
    assert preflight("", "", [model], 0.25, checks=["estimate"], expect_tokens=90_000, budgets={model: 50.0}) == []
    assert list(simulator.requests) == []


def test_the_whole_report_goes_to_log_fn(account: Account, capsys: pytest.CaptureFixture[str]) -> None:
    """Heads, lines and the end, in order; nothing is printed."""
    check("balance", "models")
    printed = capsys.readouterr().out
    taken: list[str] = []
    account.balance = (0.05, 1.0, 0.95)
    check("balance", "models", log_fn=taken.append)
    assert capsys.readouterr() == ("", "")
    assert [line for line in taken if line.startswith("  [")] == [
        "  [x] Account balance  $0.05 available ($1.00 purchased, $0.95 used)",
        "  [v] Model a/b  $1.00/$2.00 per M tokens in/out",
    ]
    assert taken[:4] == printed.splitlines()[:4]
    assert "    x Account balance too low ($0.05)" in taken


@pytest.mark.parametrize("makers", [("key_smoke",), ("cache_smoke", "key_smoke"), ("bound_smoke",), ("proxy_path",)])
def test_no_key_is_made_if_something_has_failed(
    simulator: Simulator, capsys: pytest.CaptureFixture[str], makers: tuple[str, ...]
) -> None:
    boom = {"custom_checks": [lambda: ("mine", False, "no")]}
    found = {"found": [failed("Mounts", "no", "There is no folder.")]}
    bad: list[dict[str, Any]] = [{**boom}, {**found}, {"checks": ["models", *makers], "models": ["no/such"]}]
    for more in bad:
        usual = {"models": ["openai/gpt-4.1-nano"], "checks": list(makers), "raise_on_failure": False}
        options: dict[str, Any] = {**usual, "budget_per_model": 0.25, **more}
        assert len(preflight(simulator.admin_key, simulator.inference_key, **options)) == 1
        (not_run,) = [line for line in lines(capsys) if "  not run: " in line]
        assert not_run.endswith(
            f"not run: {'it makes a test key' if len(makers) == 1 else 'they make test keys'}, and something else failed"
        )
        assert all(BUILT_IN[name][1] in not_run for name in makers)
    assert not any(key.name.startswith("agent-preflight:") for key in simulator.bill().keys.values())


def test_findings_from_before_come_first_and_count_once(capsys: pytest.CaptureFixture[str]) -> None:
    found = [failed("Docker image 'img'", "missing", "img is missing"), failed("Limits", "no", "same")]
    failures = check("docker_image", docker_image="img", found=[*found, failed("Limits", "no", "same")])
    assert failures == ["img is missing", "same"]
    assert lines(capsys)[0] == "  [x] Docker image 'img'  missing"


@pytest.mark.wire
def test_a_model_that_is_not_listed_has_one_line_and_no_estimate(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    models = ("no/such", "openai/gpt-4.1-nano")
    assert check_with(simulator, "models", "estimate", models=models) == ["Model no/such not on OpenRouter"]
    assert [line[6:].split("  ")[0] for line in lines(capsys)] == [
        "Model no/such", "Model openai/gpt-4.1-nano", "Calls in the budget openai/gpt-4.1-nano",
    ]  # fmt: skip
    assert check_with(simulator, "estimate", models=("no/such",)) == []
    assert lines(capsys)[0].startswith("  [!] Calls in the budget no/such  every call is refused: ")


UNREACHABLE = "Cannot reach OpenRouter at http://127.0.0.1:1/v1: connection refused"


@pytest.mark.wire
@pytest.mark.parametrize("names", [None, ["models", "estimate"], ["estimate", "api_key"], ["tool_support", "balance"]])
def test_an_unreachable_openrouter_is_one_line(capsys: pytest.CaptureFixture[str], names: list[str] | None) -> None:
    options: dict[str, Any] = {"base_url": "http://127.0.0.1:1/v1", "raise_on_failure": False}
    (failure,) = preflight("a", "k", ["m/m", "n/n"], 0.25, names, common_required_params="tools", **options)
    assert failure.startswith(f"{UNREACHABLE}. Check ")
    printed = lines(capsys)
    assert [line for line in printed if "OpenRouter" in line] == [f"  [x] OpenRouter  {UNREACHABLE}"]
    assert len(printed) == (3 if names is None else 1)  # what the budgets sum up to, and what was not run


def test_a_script_s_own_checks_may_be_called_as_ours_is(capsys: pytest.CaptureFixture[str]) -> None:
    own = [lambda *, text=text: ("OpenRouter", False, text) for text in ("slow", "down")]
    assert check(custom_checks=own) == ["OpenRouter: slow", "OpenRouter: down"]
    assert len(lines(capsys)) == 2


@pytest.mark.wire
def test_the_smoke_calls_have_their_known_bodies(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    check_with(simulator, "key_smoke", "cache_smoke", models=("anthropic/claude-sonnet-4.5",))
    key_call = next(r for r in simulator.requests if b"gpt-4.1-nano" in r.body)
    assert json.loads(key_call.body) == {
        "model": "openai/gpt-4.1-nano",
        "messages": [{"role": "user", "content": "Say OK"}],
        "max_tokens": 16,
    }
    first, second = (r for r in simulator.requests if b"claude" in r.body)
    assert first.body == second.body
    body = json.loads(first.body)
    assert body["max_tokens"] == 4
    assert body["messages"][0]["content"][0]["cache_control"] == {"type": "ephemeral"}
    assert (first.headers["HTTP-Referer"], first.headers["X-Title"]) == ("https://agent-preflight", "agent-preflight")


def check_with(simulator: Simulator, *names: str, models: tuple[str, ...] = ("openai/gpt-4.1-nano",)) -> list[str]:
    return preflight(
        simulator.admin_key, simulator.inference_key, list(models), 0.25, checks=list(names), raise_on_failure=False
    )


@pytest.mark.wire
def test_the_base_url_may_be_an_argument(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_BASE_URL", "http://127.0.0.1:1")
    models = ["openai/gpt-4.1-nano"]
    assert preflight(simulator.admin_key, simulator.inference_key, models, 0.25, base_url=simulator.base_url) == []


@pytest.mark.wire
def test_a_key_that_cannot_be_made_fails_with_the_reason(simulator: Simulator) -> None:
    (failure,) = preflight(
        simulator.inference_key, simulator.inference_key, ["a/b"], 0.25, checks=["key_smoke"], raise_on_failure=False
    )
    assert failure.startswith("Key provisioning failed: ")
    assert simulator.inference_key[:12] not in failure


@pytest.mark.wire
def test_caching_without_an_anthropic_model_is_skipped(
    simulator: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_with(simulator, "cache_smoke") == []
    printed = capsys.readouterr().out
    assert "  [!] Prompt caching  skipped: no Anthropic model in the list\n" in printed
    assert "  All preflight checks passed.\n" in printed


class Answers:
    """An OpenRouter that makes keys and answers chat calls with these usages."""

    def __init__(self, *usages: Any, status: int = 200) -> None:
        self.usages = list(usages)
        self.status = status
        self.deleted: list[str] = []

    def __call__(self, seen: Seen) -> tuple[int, Any]:
        if seen.path == "/keys":
            return 201, {"data": {"hash": "h"}, "key": "sk-test"}
        if seen.method == "DELETE":
            self.deleted.append(seen.path)
            return 200, {"deleted": True}
        if seen.path.startswith("/keys/"):
            return 404, {}
        if seen.path == "/models":
            return 200, {"data": []}
        if self.status != 200:
            return self.status, {"error": {"message": "no\x1b[2J thanks"}}
        return 200, {"choices": [{"message": {"content": "\x1b[31mOK"}}], "usage": self.usages.pop(0)}


def usage(cached: int = 0, written: int = 0) -> dict[str, Any]:
    details = {"cached_tokens": cached, "cache_write_tokens": written}
    return {"prompt_tokens": 2000, "prompt_tokens_details": details}


@pytest.mark.wire
@pytest.mark.parametrize(
    ("usages", "sign", "failures"),
    [
        ((usage(written=1900), usage(cached=1900)), "[v]", []),
        ((usage(written=1900), usage(written=1900)), "[!]", []),
        (
            (usage(), usage()), "[x]",
            ["Cache smoke failed for anthropic/claude-x: no cache tokens in response"],
        ),
        (
            (None, None), "[x]",
            ["Cache smoke failed for anthropic/claude-x: no cache tokens in response"],
        ),
        (
            ({"prompt_tokens": 9, "cache_creation_input_tokens": 8}, {"prompt_tokens": 9, "cache_read_input_tokens": 8}),
            "[v]", [],
        ),
    ],
)  # fmt: skip
def test_the_second_answer_decides_about_caching(
    serve: Serve, capsys: pytest.CaptureFixture[str], usages: tuple[Any, Any], sign: str, failures: list[str]
) -> None:
    answers = Answers(*usages)
    serve(answers)
    assert check("cache_smoke", models=("anthropic/claude-x",)) == failures
    assert lines(capsys)[0].startswith(f"  {sign} Prompt caching")
    assert answers.deleted == ["/keys/h"]


@pytest.mark.wire
@pytest.mark.parametrize("name", ["key_smoke", "cache_smoke"])
def test_the_test_key_is_deleted_even_if_the_call_fails(
    serve: Serve, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    answers = Answers(status=402)
    server = serve(answers)
    (failure,) = check(name, models=("anthropic/claude-x",))
    assert "HTTP 402" in failure
    assert answers.deleted == ["/keys/h"]
    assert "\x1b" not in capsys.readouterr().out
    body = next(seen.body for seen in server.seen if seen.method == "POST")
    assert body["name"] == {"key_smoke": "agent-preflight:preflight-smoke"}.get(name, "agent-preflight:cache-smoke")


@pytest.mark.wire
def test_a_test_key_that_could_not_be_deleted_is_reported(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    answers = Answers(usage())

    def script(seen: Seen) -> tuple[int, Any]:
        return (403, {}) if seen.method == "DELETE" else answers(seen)

    serve(script)
    assert check("key_smoke") == []
    made, leftover = lines(capsys)
    assert made.startswith("  [v] Key provisioning")
    assert leftover.startswith(
        "  [!] Key provisioning (1¢ smoke)  the test key 'agent-preflight:preflight-smoke' could not be deleted"
    )


@pytest.mark.wire
@pytest.mark.parametrize("name", ["key_smoke", "cache_smoke"])
def test_both_smoke_checks_use_a_script_s_own_provision_key(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made: list[tuple[str, str]] = []

    def provision_key(admin_key: str, label: str, limit_usd: float) -> str:
        made.append((admin_key, label))
        return "sk-mine"

    monkeypatch.setattr(agent_preflight, "provision_key", provision_key)
    server = serve(Answers(usage(written=9), usage(cached=9)))
    assert check(name, models=("anthropic/claude-x",)) == []
    assert made[0][0] == "admin"
    assert server.asked("POST", "/keys") == 0
    assert {s.headers["Authorization"] for s in server.seen if "chat" in s.path} == {"Bearer sk-mine"}
