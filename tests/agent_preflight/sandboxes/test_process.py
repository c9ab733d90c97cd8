"""The sandbox without containers, with real processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Set
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from agent_preflight.sandboxes import process
from agent_preflight.sandboxes.interface import AgentSpec, Exit, Pipes
from agent_preflight.sandboxes.kept_output import KeptOutput
from agent_preflight.sandboxes.process import (
    ProcessSandbox,
    SessionProcess,
    agent_environment,
    end_orphan_processes,
    members,
    orphan_processes,
)
from preflight_proxy.core.errors import OperatingError

pytestmark = pytest.mark.wire

Make = Callable[..., ProcessSandbox]


def python(text: str) -> tuple[str, ...]:
    return (sys.executable, "-u", "-c", text)


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Sandboxes whose processes are gone when the test ends."""
    made: list[ProcessSandbox] = []
    (tmp_path / "t" / "budget").mkdir(parents=True)
    (tmp_path / "t" / "budget" / "budget.txt").write_text("0.25 left\n")

    def sandbox(command: tuple[str, ...], **env: str) -> ProcessSandbox:
        spec = AgentSpec(
            run_id="run-1",
            alias="t",
            run_dir=tmp_path,
            image="",
            command=command,
            env=env,
            network="sealed",
            workspace_path="/workspace/output",
            budget_dir=tmp_path / "t" / "budget",
            gate_socket=None,
        )
        made.append(ProcessSandbox(spec))
        return made[-1]

    yield sandbox
    for each in made:
        await each.close()


async def line(pipes: Pipes) -> str:
    return (await pipes.stdout.readline()).decode().strip()


def alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


async def test_the_agent_talks_over_its_pipes_and_its_exit_code_is_kept(make: Make) -> None:
    sandbox = make(python("import sys; print(input()); print('e', file=sys.stderr); sys.exit(3)"))
    await sandbox.create()
    pipes = await sandbox.start()
    pipes.stdin.write(b'{"type": "prompt"}\n')
    assert await line(pipes) == '{"type": "prompt"}'
    assert await pipes.stderr.read() == b"e\n"
    assert await sandbox.wait() == Exit(code=3)


@pytest.mark.parametrize("text", [b"", b"all\n", b"x" * 200_000])
async def test_a_closed_input_ends_after_what_was_written(make: Make, text: bytes) -> None:
    sandbox = make(python("import sys; print(len(sys.stdin.read()))"))
    await sandbox.create()
    pipes = await sandbox.start()
    pipes.stdin.write(text)
    pipes.stdin.close()
    assert await line(pipes) == str(len(text))
    assert await sandbox.wait() == Exit(code=0)


async def test_the_budget_stands_in_the_working_directory(make: Make) -> None:
    sandbox = make(python("print(open('budget.txt').read())"))
    await sandbox.create()
    assert await line(await sandbox.start()) == "0.25 left"
    assert (sandbox.workspace / "budget.txt").is_symlink()


async def test_the_agent_gets_its_variables_and_none_that_could_be_a_key(make: Make) -> None:
    sandbox = make(python("import os, json; print(sorted(os.environ))"), OPENROUTER_API_KEY="pf-token")
    await sandbox.create()
    names = await line(await sandbox.start())
    assert "OPENROUTER_API_KEY" in names
    assert "PYTEST_CURRENT_TEST" not in names


def test_of_our_environment_only_harmless_names_pass() -> None:
    ours = {"PATH": "/bin", "LC_ALL": "C", "OR_ADMIN_KEY": "sk-or-admin", "OPENROUTER_API_KEY": "sk-or-real"}
    assert agent_environment({"OPENROUTER_API_KEY": "pf-t"}, ours) == {
        "PATH": "/bin",
        "LC_ALL": "C",
        "OPENROUTER_API_KEY": "pf-t",
    }


async def test_an_agent_that_ignores_term_is_killed(make: Make) -> None:
    sandbox = make(python("import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(60)"))
    await sandbox.create()
    pipes = await sandbox.start()
    assert await line(pipes) == "up"
    waiting = asyncio.ensure_future(sandbox.wait())
    assert await sandbox.kill() == "ok"
    assert await waiting == Exit(code=137)
    assert await pipes.stdout.read() == b""


@pytest.fixture
async def by_pidfd() -> AsyncIterator[None]:
    """asyncio reads exit codes on the loop, as Python 3.12 and later do by default."""
    if sys.version_info >= (3, 12):
        yield
        return
    before, watcher = asyncio.get_child_watcher(), asyncio.PidfdChildWatcher()
    watcher.attach_loop(asyncio.get_running_loop())
    asyncio.set_child_watcher(watcher)
    yield
    asyncio.set_child_watcher(before)


@pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd")
async def test_an_agent_that_is_seen_to_be_gone_before_asyncio_reads_its_exit_code_keeps_it(
    make: Make, monkeypatch: pytest.MonkeyPatch, by_pidfd: None
) -> None:
    def late(leader: int, known: Set[psutil.Process] = frozenset()) -> set[psutil.Process]:
        time.sleep(0.05)  # the agent dies meanwhile, and the loop cannot read how
        return members(leader, known)

    monkeypatch.setattr(process, "members", late)
    monkeypatch.setattr(process, "TERM_S", 0.01)
    monkeypatch.setattr(process, "PROCESS_LOOK_EVERY_S", 0)
    sandbox = make(python("import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(60)"))
    await sandbox.create()
    assert await line(await sandbox.start()) == "up"
    waiting = asyncio.ensure_future(sandbox.wait())
    assert await sandbox.close() == {"agent": "ok"}
    assert await waiting == Exit(code=137)


async def test_an_agent_may_tidy_up_on_term(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "TERM_S", 60.0)  # on a busy machine half a second may not be enough for it
    text = "import signal, sys, time; signal.signal(15, lambda *a: (print('bye'), sys.exit(7))); print('up'); time.sleep(60)"
    sandbox = make(python(text))
    await sandbox.create()
    pipes = await sandbox.start()
    await line(pipes)
    assert await sandbox.kill() == "ok"
    assert await line(pipes) == "bye"
    assert await sandbox.wait() == Exit(code=7)


CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], {how})
print(child.pid)
{then}
"""


@pytest.mark.parametrize("how", ["", "process_group=0", "start_new_session=True"])
async def test_children_end_with_the_agent_whatever_group_or_session_they_moved_to(make: Make, how: str) -> None:
    sandbox = make(python(CHILD.format(how=how, then="time.sleep(60)")))
    await sandbox.create()
    child = int(await line(await sandbox.start()))
    assert alive(child)
    assert await sandbox.kill() == "ok"
    assert not alive(child)


async def test_a_child_that_ignores_term_ends_although_its_session_is_its_own_and_its_parent_is_gone(
    make: Make,
) -> None:
    child = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    then = "child.stdout.readline(); print('up'); time.sleep(60)"
    how = "start_new_session=True, stdout=subprocess.PIPE"
    sandbox = make(python(CHILD.replace("import time; time.sleep(60)", child).format(how=how, then=then)))
    await sandbox.create()
    pipes = await sandbox.start()
    pid = int(await line(pipes))
    assert await line(pipes) == "up"
    assert await sandbox.kill() == "ok"
    assert not alive(pid)


async def test_once_all_are_gone_their_ids_are_not_looked_for_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = make(python("import time; time.sleep(60)"))
    await sandbox.create()
    await sandbox.start()
    assert await sandbox.kill() == "ok"
    monkeypatch.setattr(process, "members", None)
    assert await sandbox.kill() == "ok"


async def test_a_child_that_holds_the_output_open_does_not_outlive_its_agent(make: Make) -> None:
    sandbox = make(python(CHILD.format(how="process_group=0", then="")))
    await sandbox.create()
    pipes = await sandbox.start()
    child = int(await line(pipes))
    assert await sandbox.wait() == Exit(code=0)
    assert await pipes.stdout.read() == b""
    assert not alive(child)


async def test_ending_twice_and_before_the_start_is_no_error(make: Make) -> None:
    sandbox = make(python("print(1)"))
    assert await sandbox.kill() == "ok"
    await sandbox.create()
    with pytest.raises(OperatingError, match="ended before"):
        await sandbox.start()
    assert await sandbox.close() == {"agent": "ok"}
    assert await sandbox.close() == {"agent": "ok"}


async def test_a_program_that_is_not_there_is_named(make: Make) -> None:
    sandbox = make(("/no/such/agent",))
    await sandbox.create()
    with pytest.raises(OperatingError, match="starting the agent t: No such file"):
        await sandbox.start()


def test_this_process_is_found_in_its_own_session() -> None:
    assert psutil.Process() in members(os.getsid(0)) or os.getsid(0) == 0


async def test_what_a_process_wrote_is_where_it_worked_and_nothing_is_copied(make: Make, tmp_path: Path) -> None:
    sandbox = make(("true",))
    assert (await sandbox.keep(tmp_path)).path is None
    await sandbox.create()
    assert await sandbox.keep(tmp_path) == KeptOutput(
        str(sandbox.workspace), None, None, why="the agent's working directory"
    )
    await sandbox.close()


PARENT = "import subprocess, sys; subprocess.Popen(['sleep', '60'], env={}); print('up', flush=True); sys.stdin.read()"


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Two agents as a runner starts them, each with a child that has lost its environment."""
    started = {}
    for name in ("a", "ab"):
        started[name] = subprocess.Popen(
            [sys.executable, "-c", PARENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"PREFLIGHT_BUDGET_FILE": str(tmp_path / name), "PATH": "/usr/bin:/bin"},
            start_new_session=True,
        )
        assert started[name].stdout is not None
        started[name].stdout.readline()  # type: ignore[union-attr]  # a pipe
    yield started
    for agent in started.values():
        for orphan in orphan_processes(tmp_path / "a") | orphan_processes(tmp_path / "ab"):
            orphan.kill()
        agent.communicate()


async def test_an_agent_and_its_children_are_ended_and_its_neighbour_is_not(
    agents: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    assert await end_orphan_processes(tmp_path / "a") == (2, "ok")
    assert agents["a"].wait() == -9
    assert agents["ab"].poll() is None
    assert len(orphan_processes(tmp_path / "ab")) == 2


async def test_nothing_is_ended_where_nothing_is_left(tmp_path: Path) -> None:
    assert await end_orphan_processes(tmp_path / "a") == (0, "ok")


async def test_a_process_that_left_its_session_and_its_parents_is_found_by_the_budget_file(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "PREFLIGHT_BUDGET_FILE": str(tmp_path / "budget.txt")}
    leaves = f'(setsid sh -c "sleep 3600 & echo \\$! > {tmp_path}/pid; sleep 3601" &); while ! test -s {tmp_path}/pid; do :; done'
    started = SessionProcess("it", ("/bin/sh", "-c", leaves), tmp_path, env, tmp_path / "budget.txt")
    await started.start()
    assert await started.wait() == Exit(code=0)
    assert not alive(int((tmp_path / "pid").read_text()))
    assert await started.close() == {"agent": "ok"}
