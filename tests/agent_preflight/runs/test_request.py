"""The request for a run: its settings, and how it was started."""

from agent_preflight.options.settings import read_settings
from agent_preflight.runs.request import Origin, RunRequest

SETTINGS = read_settings({"models": ["m/m=a"], "admin_key": "sk-or-admin", "max_workers": 5, "on_event": print})


def test_a_request_is_for_a_new_run_without_checks_unless_it_says_otherwise() -> None:
    request = RunRequest(settings=SETTINGS)
    assert (request.origin, request.single, request.preflight, request.may_have_begun) == (None, False, None, False)
    assert request.admin_key.reveal() == "sk-or-admin"
    assert "sk-or-admin" not in repr(request)


def test_one_trial_runs_at_a_time_unless_they_run_in_parallel() -> None:
    assert RunRequest(settings=SETTINGS).workers == 5
    assert RunRequest(settings=read_settings({"max_workers": 5, "parallel": False})).workers == 1


def test_a_run_may_have_begun_if_it_is_named_resumed_or_a_single_trial() -> None:
    named, resumed = read_settings({"run_id": "r"}), read_settings({"run_id": "r", "resume": True})
    assert RunRequest(settings=named).may_have_begun
    assert RunRequest(settings=resumed).may_have_begun
    assert RunRequest(settings=SETTINGS, single=True).may_have_begun


def test_only_a_script_has_functions_of_its_own() -> None:
    assert RunRequest(settings=SETTINGS).functions == ["on_event"]
    assert RunRequest(settings=SETTINGS, origin=Origin()).functions == []


def test_a_line_goes_where_the_run_says() -> None:
    lines: list[str] = []
    RunRequest(settings=read_settings({"log_fn": lines.append})).say("text")
    assert lines == ["text"]
