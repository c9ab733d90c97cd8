"""The sandbox on an engine that errs, played by a script: what it calls in which order, and what it believes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from agent_preflight.docker.container import DockerSandbox
from agent_preflight.docker.failure import DockerError
from agent_preflight.sandbox import AgentSpec
from preflight_proxy.errors import ConfigError
from tests.agent_preflight.docker.conftest import MakeSpec, Scripted, ScriptedDocker

pytestmark = pytest.mark.wire

SECRET = "pf-trial-token"
AWAY = "echo 'Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?' >&2; exit 1"
GONE = "echo 'Error response from daemon: No such container: c' >&2; exit 1"
STATE = '{"Status":"running","OOMKilled":false,"ExitCode":0,"Error":"","StartedAt":"2026-11-25T02:36:02Z"}'
KEEP_ENV_FILE = r"""
        for arg; do [ "$last" = --env-file ] && { cp "$arg" env.seen; stat -c %a "$arg" > env.mode; echo "$arg" > env.path; }
        last=$arg; done"""

Make = Callable[..., tuple[DockerSandbox, ScriptedDocker]]


def engine(create_agent: str = "echo agent-id", more: str = "") -> str:
    """An engine that works, unless the file `away` stands beside it."""
    return f"""
    *) if [ -e away ]; then {AWAY}; fi
    case "$*" in
    {more}
    create*'role=gate'*) echo 'WARNING: something'; echo gate-id;;
    create*) {KEEP_ENV_FILE}
        {create_agent};;
    'start gate-id'|cp*|kill*|wait*) :;;
    'start -a -i agent-id') exec sleep 60;;
    rm*) touch "removed-$4";;
    'container inspect'*) if [ -e "removed-$5" ]; then {GONE}; else echo '{STATE}'; fi;;
    ps*) :;;
    esac;;"""


@pytest.fixture
def make(scripted: Scripted, make_spec: MakeSpec) -> Make:
    def sandbox(branches: str = "", **fields: object) -> tuple[DockerSandbox, ScriptedDocker]:
        script = scripted(branches or engine())
        usual: dict[str, object] = {"image": "me/agent", "env": {"OPENROUTER_API_KEY": SECRET}}
        spec: AgentSpec = make_spec("run-it", **usual | fields)
        return DockerSandbox(spec, executable=str(script.path), gate_image="sha256:gate"), script

    return sandbox


async def test_the_gate_stands_before_the_agent_is_made_and_goes_after_it(make: Make) -> None:
    sandbox, script = make()
    await sandbox.create()
    await sandbox.start()
    assert await sandbox.close() == {"agent": "ok", "gate": "ok"}
    first_words = [" ".join(call.split()[:2]) for call in script.calls()]
    assert first_words[:6] == [
        "create --pull",
        "start gate-id",
        "create --pull",
        "cp -",
        "start -a",
        "container inspect",
    ]
    removals = [call for call in script.calls() if call.startswith("rm")]
    assert removals == ["rm -f -v agent-id", "rm -f -v gate-id"]


async def test_the_token_is_in_a_private_file_that_is_gone_and_in_no_argument(make: Make, tmp_path: Path) -> None:
    sandbox, script = make()
    await sandbox.create()
    await sandbox.close()
    assert (tmp_path / "env.seen").read_text() == f"OPENROUTER_API_KEY={SECRET}\n"
    assert (tmp_path / "env.mode").read_text().strip() == "600"
    assert not Path((tmp_path / "env.path").read_text().strip()).exists()
    assert not any(SECRET in call for call in script.calls())


async def test_the_private_file_is_gone_after_a_failure_too(make: Make, tmp_path: Path) -> None:
    sandbox, _ = make(engine(create_agent="echo 'Error response from daemon: no space left' >&2; exit 1"))
    with pytest.raises(DockerError, match="no space left") as caught:
        await sandbox.create()
    assert SECRET not in str(caught.value)
    assert not Path((tmp_path / "env.path").read_text().strip()).exists()
    await sandbox.close()


async def test_a_variable_that_cannot_be_passed_is_refused_before_anything_is_made(make: Make) -> None:
    sandbox, script = make(env={"TOKEN": "a\nb"})
    with pytest.raises(ValueError, match="TOKEN"):
        await sandbox.create()
    assert script.calls() == []


async def test_an_engine_that_goes_away_leaves_both_unverified_and_the_gate_alone(make: Make, tmp_path: Path) -> None:
    sandbox, script = make()
    await sandbox.create()
    await sandbox.start()
    (tmp_path / "away").touch()
    assert await sandbox.close() == {"agent": "unverified", "gate": "unverified"}
    assert not any("rm -f -v gate-id" in call for call in script.calls())


async def test_a_second_close_finishes_what_the_first_could_not(make: Make, tmp_path: Path) -> None:
    sandbox, _ = make()
    await sandbox.create()
    (tmp_path / "away").touch()
    assert (await sandbox.close())["agent"] == "unverified"
    (tmp_path / "away").unlink()
    assert await sandbox.close() == {"agent": "ok", "gate": "ok"}


async def test_what_is_gone_is_not_asked_for_again(make: Make) -> None:
    sandbox, script = make()
    await sandbox.create()
    await sandbox.close()
    calls = len(script.calls())
    assert await sandbox.kill() == "ok"
    assert await sandbox.close() == {"agent": "ok", "gate": "ok"}
    assert len(script.calls()) == calls


async def test_a_create_whose_answer_was_lost_is_looked_for_by_its_labels(make: Make, tmp_path: Path) -> None:
    strays = "ps*'role=agent'*) if [ -e removed-lost-id ]; then :; else echo lost-id; fi;;"
    sandbox, script = make(engine(create_agent="exit 137", more=strays))
    with pytest.raises(DockerError):
        await sandbox.create()
    assert await sandbox.close() == {"agent": "ok", "gate": "ok"}
    assert "rm -f -v lost-id" in script.calls()


async def test_an_ending_before_the_create_makes_nothing(make: Make) -> None:
    sandbox, script = make()
    assert await sandbox.close() == {"agent": "ok", "gate": "ok"}
    with pytest.raises(DockerError, match="ended before"):
        await sandbox.create()
    assert script.calls() == []


def test_a_container_without_a_gate_socket_is_refused(make: Make) -> None:
    with pytest.raises(ConfigError, match="needs a gate"):
        make(gate_socket=None)
