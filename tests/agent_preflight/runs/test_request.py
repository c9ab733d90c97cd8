"""What a caller may leave unsaid."""

from pathlib import Path

from agent_preflight.runs.plan import Surroundings
from agent_preflight.runs.request import RunRequest
from preflight_proxy.core.secret import Secret


def test_a_request_is_for_a_new_run_without_checks_unless_it_says_otherwise() -> None:
    made = RunRequest(
        models=[("m/m", "a")],
        admin_key=Secret("sk-or-admin"),
        budget=1,
        around=Surroundings("process", ""),
        runs_dir=Path("runs"),
    )
    assert (made.run_id, made.resume, made.single, made.preflight, made.workers) == (None, False, False, None, 8)
    assert "sk-or-admin" not in repr(made)
    made.say("nobody listens")
