"""The public functions: what scripts call."""

import asyncio
from pathlib import Path

import pytest

from agent_preflight.preflight import PreflightError
from agent_preflight.runner import arun_multi, run_container, run_multi, run_single
from preflight_proxy.core.errors import ConfigError
from tests.support.trial_field import MODEL, Field, agent


def test_a_wrong_argument_is_an_error_and_no_folder_is_made(tmp_path: Path) -> None:
    known = {"admin_key": "a", "or_key": "o", "budget_usd": 1, "runs_dir": tmp_path / "runs"}
    with pytest.raises(ConfigError, match="nothing to run"):
        run_multi([], image_name="i", **known)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"image is missing: .* image_name from Python"):
        run_multi([(MODEL, "a")], **known)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"program is missing: .*`command`.* Python"):
        run_multi([(MODEL, "a")], sandbox="process", **known)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="newlines"):
        run_multi([(MODEL, "a")], image_name="i", env={"A": "x\ny"}, **known)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="or_key"):
        run_multi([(MODEL, "a")], image_name="i", preflight_kwargs={"or_key": "x"}, **known)  # type: ignore[arg-type]
    assert not (tmp_path / "runs").exists()


@pytest.mark.wire
@pytest.mark.parametrize("is_async", [False, True])
def test_log_fn_takes_every_line_of_a_run(
    trials: Field, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    """Checks, warnings, trials and the last table, also where a list of the user's is damaged; nothing is printed beside it."""
    listed = tmp_path / "agent-preflight" / "quarantine.jsonl"
    listed.parent.mkdir()
    listed.write_text("no line of ours\n")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    checks = {"custom_checks": [lambda: ("mine", None, "a warning")], "site_name": "another"}
    options = trials.options(
        {"a": "call(); say('agent_end')", "b": "sys.exit(3)"},
        skip_preflight=False,
        preflight_kwargs=checks,
        budget_usd="0.25",
        openrouter_base_url=trials.simulator.base_url,
    )
    models = [(MODEL, alias) for alias in ("a", "b")]
    results = asyncio.run(arun_multi(models, **options)) if is_async else run_multi(models, **options)
    assert [result.error for result in results] == [None, "the agent ended with exit code 3"]
    for told in (
        *("  PREFLIGHT CHECKS", "  [!] mine  a warning", "  All preflight checks passed, with 1 warning."),
        *(f"Starting 2 trials in {trials.run_dirs[-1]}", f"files: {trials.run_dirs[-1]}"),
    ):
        assert trials.said.count(told) == 1, told
    assert f"costs: agent-preflight costs {trials.run_dirs[-1].name} --runs-dir {trials.runs_dir}" in trials.said
    assert any(line.startswith(f"  [v] Calls in the budget {MODEL}  ") for line in trials.said)
    assert capfd.readouterr() == ("", "")


@pytest.mark.wire
def test_log_fn_takes_the_report_of_checks_that_failed(trials: Field, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PreflightError, match="no/such"):
        trials.run({"a": "call()"}, skip_preflight=False, preflight_kwargs={"checks": ["models"], "models": "no/such"})
    assert "  PREFLIGHT FAILED (1 issue):" in trials.said
    assert capfd.readouterr() == ("", "")


@pytest.mark.wire
def test_run_single_makes_the_alias_from_the_model_id(trials: Field) -> None:
    options = trials.options({}, command=agent("call()"), runs_dir=str(trials.runs_dir), image_name="")
    result = run_single(MODEL, **options)
    assert (result.alias, result.error) == ("gpt-4-1-nano", None)


@pytest.mark.wire
def test_run_container_is_a_run_of_one_trial_in_its_own_folder(trials: Field) -> None:
    result = run_container(
        image_name="",
        model_id=MODEL,
        alias="a",
        admin_key=trials.simulator.admin_key,
        budget_usd=0.05,
        run_dir=trials.runs_dir,
        run_id="r",
        sandbox="process",
        command=agent("call(); say('agent_end')"),
        log_fn=trials.said.append,
    )
    assert result.error is None
    names = {path.name for path in (trials.runs_dir / "a").iterdir()}
    assert {"summary.json", "events.jsonl", "ledger.sqlite3", "plan.json"} <= names
    assert [path.name for path in trials.runs_dir.iterdir()] == ["a"]


@pytest.mark.wire
async def test_a_cancelled_async_run_ends_its_trials_before_it_raises(trials: Field) -> None:
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    options = trials.options(
        {"a": "call(); say('ready'); time.sleep(60)"},
        on_event=lambda event: loop.call_soon_threadsafe(ready.set),
    )
    running = asyncio.ensure_future(arun_multi([(MODEL, "a")], **options))
    await ready.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert trials.summary("a")["error"] == "interrupted"


def test_an_unknown_option_is_refused_by_the_async_function_too() -> None:
    with pytest.raises(TypeError):
        asyncio.run(arun_multi([(MODEL, "a")], admin_key="a", or_key="o", budget_usd=1, imag_name="x"))  # type: ignore[call-arg]
