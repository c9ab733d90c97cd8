"""What is checked before a run has a folder, and which folder it gets."""

import asyncio
import json
import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.environment.network_access import read_network_access
from agent_preflight.options.settings import SandboxKind
from agent_preflight.runner.begin import announce, checked, look_first, open_folder, plans_of
from agent_preflight.runner.loop import Stop
from agent_preflight.runner.ready import Ready
from agent_preflight.runs.plan import Before, Surroundings, TrialPlan
from agent_preflight.runs.request import Origin, Request
from preflight_proxy.core.errors import ConfigError
from preflight_proxy.core.secret import Secret

CENT = 10**10
TRIAL = TrialPlan("a", "m/m", CENT, "k", ())


def request(tmp_path: Path, **changes: Any) -> Request:
    return Request(
        **{
            "models": [("m/m", "a")],
            "admin_key": Secret("x"),
            "budget": 1,
            "around": Surroundings("process", ""),
            "runs_dir": tmp_path / "runs",
            **changes,
        }
    )


@pytest.mark.parametrize(
    "changes", [{"models": []}, {"budget": 0}, {"run_id": "../x"}, {"policy": 3}, {"models": [("m/m", "a/b")]}]
)
def test_what_cannot_be_carried_out_makes_no_folder(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        open_folder(request(tmp_path, **changes))
    assert not (tmp_path / "runs").exists()


def test_each_kind_of_run_gets_its_folder(tmp_path: Path) -> None:
    with ExitStack() as held:
        suggested = request(tmp_path, suggested_id="s")
        paths = [
            held.enter_context(open_folder(each)).path.relative_to(tmp_path)
            for each in (suggested, suggested, request(tmp_path, run_id="n"), request(tmp_path, single=True))
        ]
    assert [str(path) for path in paths] == ["runs/s", "runs/s-2", "runs/n", "runs/a"]
    with open_folder(request(tmp_path, run_id="n", resume=True)) as folder:
        assert folder.path.name == "n"
    with pytest.raises(ConfigError, match=r'no run "other" in .*runs/. Latest: '):
        open_folder(request(tmp_path, run_id="other", resume=True))


def test_a_run_that_was_begun_says_how_to_go_on_as_its_user_writes_it(tmp_path: Path) -> None:
    asked = request(tmp_path, run_id="n")
    (tmp_path / "runs" / "n" / "a").mkdir(parents=True)
    for each, told in ((asked, "resume=True"), (replace(asked, origin=Origin()), "--resume n")):
        with pytest.raises(ConfigError, match=rf"go on with it \({told}\), or choose another"):
            open_folder(each)


def test_nothing_of_this_machine_is_looked_at_where_every_trial_is_kept(tmp_path: Path) -> None:
    (tmp_path / "runs" / "r" / "a").mkdir(parents=True)
    summary = tmp_path / "runs" / "r" / "a" / "summary.json"
    summary.write_text(json.dumps({"preflight": {"status": "failed", "ended_by": "agent"}}))
    around = Surroundings("docker", "img")
    asked = request(tmp_path, run_id="r", resume=True, around=around)
    no_engine: Any = object()
    assert asyncio.run(look_first(asked, no_engine, Stop())) == Ready()
    for due in (replace(asked, retry_failed=True), replace(asked, models=[("m/m", "a"), ("m/m", "b")])):
        with pytest.raises(AttributeError):
            asyncio.run(look_first(due, no_engine, Stop()))


def test_every_plan_has_a_key_name_of_its_own(tmp_path: Path) -> None:
    first, second = (plans_of(request(tmp_path), "r")[0].key_name for _ in range(2))
    assert first != second


async def test_what_a_check_raises_ends_the_run() -> None:
    def fail() -> None:
        raise ValueError("no money")

    with pytest.raises(ValueError, match="no money"):
        await checked(fail, Stop())


async def test_a_person_in_a_hurry_does_not_wait_for_checks() -> None:
    stop, release, begun = Stop(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        release.wait(60)

    checking = asyncio.ensure_future(checked(slow, stop))
    await asyncio.to_thread(begun.wait, 60)
    stop.hurry.set()
    await checking
    release.set()


def test_a_person_is_told_where_and_what_to_mind(tmp_path: Path) -> None:
    said: list[str] = []
    around = Surroundings(
        "process", "", network="host", reach=read_network_access({"los": "127.0.0.1:3000"}, None, "host")
    )
    with open_folder(request(tmp_path, run_id="r")) as folder:
        announce(request(tmp_path, say=said.append, around=around), folder, "r", [TRIAL])
        announce(replace(request(tmp_path, say=said.append), single=True), folder, "r", [TRIAL])
    assert said[0] == f"Starting 1 trial in {folder.path}"
    assert any("services mean nothing without containers" in line for line in said)
    assert said[-2].endswith(f"status r --runs-dir {tmp_path / 'runs'}")
    assert said[-1].endswith(f"Ctrl-C, or agent-preflight stop r --runs-dir {tmp_path / 'runs'}")


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(
    ("network", "reached"), [("bridge", "the internet and your network"), ("mine", "what the network mine reaches")]
)
def test_an_open_network_is_one_line_that_says_what_it_means_and_how_to_seal(
    tmp_path: Path, network: str, reached: str, single: bool
) -> None:
    said: list[str] = []
    asked = request(tmp_path, say=said.append, around=Surroundings("docker", "i", network=network), single=single)
    with open_folder(asked) as folder:
        announce(asked, folder, "r", [TRIAL])
    (told,) = [line for line in said if line.startswith("  network: ")]
    assert told.startswith(
        f"  network: {network}; agents reach {reached}. The budget holds, because no real key is in the"
    )
    assert told.endswith(': network="sealed"')
    assert single is (len(said) == 1)


@pytest.mark.parametrize(("sandbox", "network"), [("docker", "sealed"), ("process", "host")])
def test_a_trial_that_is_sealed_or_no_container_is_not_told_how_to_seal(
    tmp_path: Path, sandbox: SandboxKind, network: str
) -> None:
    said: list[str] = []
    asked = request(tmp_path, say=said.append, around=Surroundings(sandbox, "i", network=network))
    with open_folder(asked) as folder:
        announce(asked, folder, "r", [TRIAL])
        announce(replace(asked, single=True), folder, "r", [TRIAL])
    told = [line for line in said if line.startswith("  network: ")]
    assert told == [f"  network: {network}; budgets hold whatever the agents do"]


def test_a_run_that_goes_on_says_which_trials_begin_with_which_budget(tmp_path: Path) -> None:
    said: list[str] = []
    asked = request(tmp_path, say=said.append, run_id="r")
    due = [TRIAL, replace(TRIAL, alias="b", before=Before(CENT * 3 // 10, CENT))]
    with open_folder(asked) as folder:
        announce(replace(asked, resume=True), folder, "r", due)
        assert said[1] == "  these begin: a (budget $0.01), b (budget $0.01, $0.003 of it spent)"
        announce(asked, folder, "r", due)
        assert sum("(budget" in line for line in said) == 1
