"""The request that the keywords of the public functions make."""

from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.base.console import say
from agent_preflight.checks.inputs import Inputs
from agent_preflight.runner.api import request_of
from agent_preflight.runs.plan import output_policy
from agent_preflight.runs.request import RunRequest
from agent_preflight.sandboxes.kept_output import OutputPolicy
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret
from tests.support.cases import each


def request(**options: Any) -> Any:
    known = {"models": [("m/m", "a")], "image_name": "i", "admin_key": "sk-or-admin", "or_key": "o", "budget_usd": 1}
    return request_of({**known, **options})


def inputs_of(made: RunRequest) -> Inputs:
    """Return the inputs of the checks of a request."""
    assert isinstance(made.preflight, partial)
    (inputs,) = made.preflight.args
    assert isinstance(inputs, Inputs)
    return inputs


def test_keys_have_a_type_that_cannot_be_printed() -> None:
    made = request()
    assert made.admin_key == Secret("sk-or-admin")
    assert "sk-or-admin" not in repr(made)


def test_the_default_network_is_the_one_that_scripts_expect() -> None:
    assert request().settings.network == "bridge"
    assert request(network="sealed").settings.network == "sealed"


def test_without_parallel_one_trial_runs_at_a_time() -> None:
    assert (request().workers, request(parallel=False).workers, request(max_workers=3).workers) == (8, 1, 3)


def test_relative_mounts_are_in_the_working_directory_and_names_of_volumes_do_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mounts = ["./in:/in:ro", ("../up", "/up"), ".:/here:rw,z", "cache:/c", "/abs:/a"]
    assert request(mounts=mounts).settings.mounts == (
        *(f"{tmp_path}/in:/in:ro", f"{tmp_path.parent}/up:/up", f"{tmp_path}:/here:rw,z"),
        *("cache:/c", "/abs:/a"),
    )


def test_failed_trials_run_again_only_with_a_resume() -> None:
    assert request(resume=True, run_id="r", retry_failed=True).settings.retry_failed
    with pytest.raises(ConfigError, match="needs resume=True"):
        request(retry_failed=True)


def test_container_args_follow_the_command_of_a_process() -> None:
    made = request(sandbox="process", command=["python", "x.py"], container_args={"a": ["--m", "1"]})
    assert made.settings.command_of("a") == ("python", "x.py", "--m", "1")
    assert request(container_args=["--m"]).settings.command_of("a") == ("--m",)


def test_the_settings_of_a_request_have_all_options() -> None:
    made = request(
        keep_output=False, output_max_bytes="1g", expect_tokens=5, retry_failed=True, resume=True, run_id="r"
    )
    assert (made.settings.resume, made.settings.run_id) == (True, "r")
    assert (made.settings.keep_output, made.settings.output_max_bytes) == (False, 2**30)
    assert (made.settings.expect_tokens, made.settings.retry_failed) == (5, True)


@each("option", ["sandbox", "gate", "stdin"])
def test_an_unknown_choice_is_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option} is .* not 'vm'"):
        request(**{option: "vm"})


def test_the_checks_get_each_model_once_and_its_budget() -> None:
    made = request(budget_usd={"a": Decimal("0.5")}, preflight_kwargs={"models": "x/y", "site_name": "s"})
    assert inputs_of(made).models == ("m/m", "x/y")
    assert inputs_of(made).budget_per_model == 0.5
    assert inputs_of(made).site_name == "s"
    assert request(skip_preflight=True).preflight is None


def test_the_checks_get_the_smallest_budget_of_each_model() -> None:
    models = [("m/m", "a"), ("m/m", "b"), ("x/y", "c")]
    made = request(models=models, budget_usd={"a": "0.5", "b": Decimal("0.25"), "c": 2}, byok=True)
    assert inputs_of(made).budgets == {"m/m": 0.25, "x/y": 2.0}
    assert inputs_of(made).byok is True
    assert (inputs_of(made).expect_tokens, inputs_of(request(expect_tokens=5)).expect_tokens) == (
        None,
        5,
    )
    assert inputs_of(request(models=models, budget_usd="0.5")).budgets == {"m/m": 0.5, "x/y": 0.5}


@each("name", ["admin_key", "or_key", "budget_per_model", "docker_image"])
def test_arguments_of_the_checks_that_the_run_sets_are_a_type_error(name: str) -> None:
    with pytest.raises(TypeError, match=f"preflight_kwargs sets {name}, which the run itself sets"):
        request(preflight_kwargs={name: "x"})


def test_the_checks_print_where_the_run_prints() -> None:
    taken: list[str] = []
    made = request(log_fn=taken.append)
    assert inputs_of(made).log_fn == made.settings.log_fn == taken.append
    assert inputs_of(request()).log_fn is say
    assert inputs_of(request(preflight_kwargs={"log_fn": print})).log_fn is print


def test_the_checks_get_an_image_only_if_agents_are_in_containers() -> None:
    assert inputs_of(request()).docker_image == "i"
    assert inputs_of(request(sandbox="process", command=["x"])).docker_image is None


def test_the_error_of_a_budget_that_is_not_a_number_says_what_it_must_be() -> None:
    with pytest.raises(ConfigError, match=r"budget_usd is dollars above 0 .* not 'zero'"):
        request(budget_usd="zero")


def test_limits_of_a_container_become_numbers_of_the_engine() -> None:
    settings = request(memory="2g", cpus=1.5).settings
    assert (settings.memory, settings.cpus) == ("2g", "1.5")
    assert settings.engine_options.agent == {"HostConfig": {"Memory": 2 * 2**30, "NanoCpus": 1_500_000_000}}


WRONG_OPTIONS = (
    ({"memory": "much"}, "memory"),
    ({"cpus": "all"}, "cpus"),
    ({"docker_args": ["--privileged"]}, "--privileged is not allowed"),
    ({"docker_args": ["--user"]}, "--user needs a value"),
    ({"docker_args": ["--dns", "1.1.1.1"], "network": "sealed"}, "this trial is sealed"),
)


@each("options, says", WRONG_OPTIONS)
def test_a_wrong_option_of_the_engine_is_an_error_before_anything_is_made(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        request(**options)


@each("options, says", WRONG_OPTIONS[2:])
def test_options_of_the_engine_are_not_checked_for_processes(options: dict[str, Any], says: str) -> None:
    assert request(sandbox="process", command=["x"], **options).settings.sandbox == "process"


@pytest.mark.parametrize("byok", [False, True])
def test_byok_reaches_the_settings(byok: bool) -> None:
    assert request(**({"byok": True} if byok else {})).settings.byok is byok


def test_the_checks_use_the_base_url_of_the_run() -> None:
    assert inputs_of(request(openrouter_base_url="http://x/api/v1")).base_url == "http://x/api/v1"
    own = request(openrouter_base_url="http://x/api/v1", preflight_kwargs={"base_url": "http://y/api/v1"})
    assert inputs_of(own).base_url == "http://y/api/v1"


def test_the_output_policy_has_the_limits_of_the_options() -> None:
    assert output_policy(request(workspace_path="/w/out/").settings) == OutputPolicy(path="/w/out")
    given = request(
        output_path="/o", output_timeout_s=5, output_max_bytes="2m", output_max_files=7, output_max_depth=9999
    )
    assert output_policy(given.settings) == OutputPolicy("/o", 5.0, 2 * 2**20, 7, 256)
    assert output_policy(request(keep_output=False).settings).unkept == "keep_output is off"


@pytest.mark.parametrize(
    ("budget", "together"),
    [
        (1, Decimal(3)),
        ({"a": "0.5", "b": "0.5", "c": "0.5"}, Decimal("1.5")),
        ({"a": "0.50", "b": "0.0003", "c": "0.003"}, Decimal("0.5033")),
        ({"a": "0.1", "b": "0.2", "c": "0.1"}, Decimal("0.4")),
    ],
)
def test_the_checks_get_the_sum_of_all_budgets(budget: Any, together: Decimal) -> None:
    """One model has two trials."""
    made = request(models=[("m/m", "a"), ("m/m", "b"), ("n/n", "c")], budget_usd=budget)
    assert inputs_of(made).budget_sum == together


def test_the_checks_get_the_sum_over_all_repeats() -> None:
    assert inputs_of(request(models=["m/m", "n/n"], budget_usd="0.5", repeats=4)).budget_sum == 4
    assert inputs_of(request(models=["m/m", "n/n"], budget_usd="0.5")).budget_sum is None


@each(
    "options, why",
    [
        ({"score": "echo 1", "keep_output": False}, "keep_output is off"),
        ({"score": len, "score_image": "tests"}, "score is a function, which runs here"),
        ({"score_image": "tests"}, "score is missing"),
        (
            {"score": "x", "score_image": "tests", "sandbox": "process", "command": ["x"]},
            "with sandbox process there are none",
        ),
        ({"score": "echo 1", "mounts": ["/out:/workspace/output"]}, "on a mount that all agents share"),
        ({"score": "echo 1", "mounts": ["/out:/workspace"]}, "on a mount that all agents share"),
        (
            {"score": "echo 1", "mounts": ["/{alias}:/out", "/x:/out/y"], "output_path": "/out/y/z"},
            "that all agents share",
        ),
        ({"score": "echo 1", "mounts": ["{alias}:/workspace"]}, "no folder of this machine"),
        ({"score": "echo 1", "docker_args": ["--tmpfs=/workspace"]}, "no folder of this machine"),
        ({"score": "echo 1", "docker_args": ["--volume=/{alias}:/workspace"]}, "on a mount that all agents share"),
    ],
)
def test_a_score_that_would_not_find_what_each_agent_wrote_is_refused(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        request(**options)


@each(
    "options",
    [
        {},
        {"mounts": ["/out/{alias}:/workspace/output"]},
        {"mounts": ["/{alias}/{run_id}:/workspace", "/task:/task:ro", "/in:/workspace/output/in"]},
        {"sandbox": "process", "command": ["x"], "keep_output": False},
        {"score_image": "tests"},
    ],
)
def test_a_score_of_what_is_copied_or_on_a_mount_of_each_agents_own_is_accepted(options: dict[str, Any]) -> None:
    assert request(score="echo 1", **options).settings.score == "echo 1"
