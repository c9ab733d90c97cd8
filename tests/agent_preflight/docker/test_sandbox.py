"""Agents in real containers, behind real gates; the proxy's part is played by a small server."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from agent_preflight.docker import container as ending
from agent_preflight.docker.sandbox import OUTPUT_LOST
from agent_preflight.engine.failure import DockerError, Failure
from agent_preflight.sandboxes.interface import Exit
from preflight_proxy.core.errors import ConfigError
from tests.agent_preflight.docker.conftest import MakeSandbox, MakeSpec, ProxyPart, containers_of, read_all
from tests.support.docker_program import ENGINE

pytestmark = pytest.mark.docker

GET = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"
BASE_URL = "http://127.0.0.1:8788/api/v1/key"


def python(text: str, *args: str) -> tuple[str, ...]:
    return ("python3", "-u", "-c", text, *args)


def gate_socket(make_spec: MakeSpec, alias: str = "agent") -> Path:
    path = make_spec(alias=alias).gate_socket
    assert path is not None
    return path


def running(run_dir: Path) -> list[str]:
    """The names of a run's containers that run."""
    return docker("ps", "--filter", f"label=agent-preflight.dir={run_dir}", "--format", "{{.Names}}").split()


def docker(*args: str) -> str:
    return subprocess.run([ENGINE, *args], capture_output=True, text=True, check=True).stdout


async def test_an_agent_reaches_the_proxy_over_loopback_and_its_exit_code_is_kept(
    make_sandbox: MakeSandbox, make_spec: MakeSpec
) -> None:
    text = f"{GET}; sys.exit(3)"
    sandbox = make_sandbox(*python(text, BASE_URL))
    async with ProxyPart(gate_socket(make_spec), "served") as proxy:
        await sandbox.create()
        await proxy.ready()
        outcome = await read_all(await sandbox.start())
        assert outcome.stdout == "served\n"
        assert await sandbox.wait() == Exit(code=3)


async def test_the_listeners_of_several_ports_come_over_in_one_hand_over(
    make_sandbox: MakeSandbox, make_spec: MakeSpec
) -> None:
    sandbox = make_sandbox(*python(GET, "http://openrouter.ai:443/"), ports=(8788, 443))
    async with ProxyPart(gate_socket(make_spec), "443 served") as proxy:
        await sandbox.create()
        await proxy.ready()
        assert (await read_all(await sandbox.start())).stdout == "443 served\n"
        assert proxy.hand_overs == 1


async def test_a_call_made_while_the_proxy_is_gone_waits_for_the_next_proxy(
    make_sandbox: MakeSandbox, make_spec: MakeSpec
) -> None:
    text = f"print(input()); {GET}; print('again', flush=True); {GET}"
    sandbox = make_sandbox(*python(text, BASE_URL))
    async with ProxyPart(gate_socket(make_spec), "first") as proxy:
        await sandbox.create()
        await proxy.ready()
    pipes = await sandbox.start()
    pipes.stdin.write(b"call now\n")
    assert await pipes.stdout.readline() == b"call now\n"
    async with ProxyPart(gate_socket(make_spec), "second") as proxy:
        assert (await read_all(pipes)).stdout == "second\nagain\nsecond\n"


async def test_the_budget_is_readable_where_the_agent_expects_it(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(
        "sh", "-c", "cat budget.txt; cat /run/preflight/budget.txt", docker_args=("-w/workspace/output",)
    )
    await sandbox.create()
    assert (await read_all(await sandbox.start())).stdout == "0.25 left\n" * 2
    assert sandbox.warnings == []


async def test_an_agent_that_is_not_root_has_no_capability_in_force(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("grep", "-h", "^Cap[PEA]", "/proc/self/status", docker_args=("--user=1000",))
    await sandbox.create()
    assert {line.split()[1] for line in (await read_all(await sandbox.start())).stdout.splitlines()} == {"0" * 16}


async def test_an_agent_that_is_not_root_can_write_into_the_workspace_that_we_made(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("sh", "-c", "echo x > /workspace/output/x && id -u", docker_args=("--user=1000",))
    await sandbox.create()
    assert (await read_all(await sandbox.start())).stdout == "1000\n"


async def test_the_link_goes_into_a_workspace_that_is_a_mount_and_replaces_an_old_file(
    make_sandbox: MakeSandbox, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "budget.txt").write_text("old")
    sandbox = make_sandbox("cat", "/workspace/output/budget.txt", mounts=(f"{tmp_path}/out:/workspace/output",))
    await sandbox.create()
    assert (await read_all(await sandbox.start())).stdout == "0.25 left\n"
    assert (tmp_path / "out" / "budget.txt").is_symlink()


async def test_a_workspace_that_is_read_only_is_a_warning(make_sandbox: MakeSandbox, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    sandbox = make_sandbox("cat", "/run/preflight/budget.txt", mounts=(f"{tmp_path}/out:/workspace/output:ro",))
    await sandbox.create()
    assert "finds it at /run/preflight/budget.txt" in sandbox.warnings[-1]
    assert (await read_all(await sandbox.start())).stdout == "0.25 left\n"
    assert not any((tmp_path / "out").iterdir())


async def test_the_environment_reaches_the_agent_and_no_command_line(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(
        "sh", "-c", 'echo "$OPENROUTER_API_KEY|$ODD"', env={"OPENROUTER_API_KEY": "pf-1", "ODD": ' a="b" #'}
    )
    await sandbox.create()
    assert (await read_all(await sandbox.start())).stdout == 'pf-1| a="b" #\n'
    assert "pf-1" not in docker("inspect", "-f", "{{json .Config.Cmd}} {{json .Config.Labels}}", sandbox.container_name)


async def test_an_agent_gets_what_is_written_to_it_and_keeps_its_streams_apart(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("sh", "-c", "read line; echo out $line; echo err $line >&2")
    await sandbox.create()
    pipes = await sandbox.start()
    pipes.stdin.write(b"hello\n")
    outcome = await read_all(pipes)
    assert (outcome.stdout, outcome.stderr) == ("out hello\n", "err hello\n")
    assert await sandbox.wait() == Exit(code=0)


@pytest.mark.parametrize("text", [b"", b"all\n"])
async def test_a_closed_input_ends_after_what_was_written(make_sandbox: MakeSandbox, text: bytes) -> None:
    sandbox = make_sandbox("cat")
    await sandbox.create()
    pipes = await sandbox.start()
    pipes.stdin.write(text)
    pipes.stdin.close()
    assert (await read_all(pipes)).stdout == text.decode()
    assert await sandbox.wait() == Exit(code=0)


@pytest.mark.parametrize(
    "text",
    [
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('up'); time.sleep(60)",
        "import os; print('up'); os.fork(); os.fork()\nwhile True: pass",
    ],
)
async def test_an_agent_that_will_not_go_is_gone(make_sandbox: MakeSandbox, tmp_path: Path, text: str) -> None:
    sandbox = make_sandbox(*python(text))
    await sandbox.create()
    pipes = await sandbox.start()
    assert await pipes.stdout.readline() == b"up\n"
    waiting = asyncio.ensure_future(sandbox.wait())
    assert await sandbox.kill() == "ok"
    assert not any("gate" not in name for name in running(tmp_path))
    assert await waiting in (Exit(code=137), Exit(code=143))


async def test_a_paused_agent_is_gone_as_fast(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("sleep", "60")
    await sandbox.create()
    await sandbox.start()
    docker("pause", sandbox.container_name)
    assert await sandbox.kill() == "ok"


async def test_an_agent_may_tidy_up_on_term(make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "TERM_S", 60.0)  # on a busy machine half a second may not be enough for it
    text = "import signal, sys, time; signal.signal(15, lambda *_: (print('bye'), sys.exit(7))); print('up'); time.sleep(60)"
    sandbox = make_sandbox(*python(text))
    await sandbox.create()
    pipes = await sandbox.start()
    await pipes.stdout.readline()
    assert await sandbox.kill() == "ok"
    assert (await read_all(pipes)).stdout == "bye\n"
    assert await sandbox.wait() == Exit(code=7)


async def test_an_agent_that_passes_its_memory_limit_says_so(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(*python("x = bytearray(400_000_000)"), memory="64m", docker_args=("--memory-swap=64m",))
    await sandbox.create()
    await read_all(await sandbox.start())
    assert await sandbox.wait() == Exit(code=137, out_of_memory=True)


async def test_an_agent_whose_output_was_cut_off_is_not_left_running(make_sandbox: MakeSandbox, tmp_path: Path) -> None:
    sandbox = make_sandbox("sh", "-c", "echo up; sleep 60")
    await sandbox.create()
    pipes = await sandbox.start()
    assert await pipes.stdout.readline() == b"up\n"
    attached = sandbox._attached
    assert attached is not None
    await attached.end()
    with pytest.raises(DockerError, match=OUTPUT_LOST):
        await sandbox.wait()
    assert not any("gate" not in name for name in running(tmp_path))


@pytest.mark.parametrize("instant", [0.0, 0.005, 0.02, 0.06, 0.12])
async def test_a_start_that_is_broken_off_leaves_nothing(
    make_sandbox: MakeSandbox, tmp_path: Path, instant: float
) -> None:
    sandbox = make_sandbox("sleep", "60")
    await sandbox.create()
    starting = asyncio.ensure_future(sandbox.start())
    await asyncio.wait([starting], timeout=instant)
    starting.cancel()
    await asyncio.wait([starting])
    assert await sandbox.close() == {"agent": "ok", "gate": "ok"}
    assert containers_of(tmp_path) == []


async def test_an_agent_removed_by_somebody_else_is_gone_and_not_an_error(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("sleep", "60")
    await sandbox.create()
    await sandbox.start()
    waiting = asyncio.ensure_future(sandbox.wait())
    docker("rm", "-f", sandbox.container_name)
    assert (await waiting).code in (None, 137)
    assert await sandbox.close() == {"agent": "ok", "gate": "ok"}


async def test_a_program_that_the_image_lacks_is_named_and_ends_as_in_a_shell(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("no-such-agent")
    await sandbox.create()
    said = (await read_all(await sandbox.start())).stderr
    assert "no-such-agent" in said
    assert await sandbox.wait() == Exit(code=127)


async def test_an_agent_that_cannot_start_is_an_error_with_the_engines_reason(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("true", docker_args=("--user=nobody-here",))
    await sandbox.create()
    with pytest.raises(DockerError, match=r"starting the agent agent: .*unable to find user nobody-here"):
        await sandbox.start()
    assert await sandbox.close() == {"agent": "ok", "gate": "ok"}


async def test_an_image_that_is_not_here_is_not_pulled(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("x", image="no-such-image-of-mine")
    with pytest.raises(DockerError, match="docker pull no-such-image-of-mine") as caught:
        await sandbox.create()
    assert caught.value.failure is Failure.GONE
    assert await sandbox.close() == {"agent": "ok", "gate": "ok"}


@pytest.mark.parametrize("instant", [0.0, 0.1, 0.2, 0.3])
async def test_a_create_that_is_broken_off_leaves_nothing(
    make_sandbox: MakeSandbox, tmp_path: Path, instant: float
) -> None:
    sandbox = make_sandbox("sleep", "60")
    creating = asyncio.ensure_future(sandbox.create())
    await asyncio.wait([creating], timeout=instant)
    creating.cancel()
    await asyncio.wait([creating])
    assert await sandbox.close() == {"agent": "ok", "gate": "ok"}
    assert containers_of(tmp_path) == []


async def test_a_sandbox_that_was_ended_does_not_start(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("sleep", "60")
    creating = asyncio.ensure_future(sandbox.create())
    await asyncio.sleep(0)
    assert await sandbox.kill() == "ok"
    with pytest.raises(DockerError, match="ended before"):
        await creating
    with pytest.raises(DockerError):
        await sandbox.start()


async def test_two_trials_of_one_run_do_not_reach_each_other(make_sandbox: MakeSandbox, make_spec: MakeSpec) -> None:
    first = make_sandbox(*python(GET, BASE_URL), alias="one")
    second = make_sandbox(*python(GET, BASE_URL), alias="two")
    async with (
        ProxyPart(gate_socket(make_spec, "one"), "one's") as one,
        ProxyPart(gate_socket(make_spec, "two"), "two's") as two,
    ):
        await asyncio.gather(first.create(), second.create())
        await asyncio.gather(one.ready(), two.ready())
        outcomes = [await read_all(await sandbox.start()) for sandbox in (first, second)]
    assert [outcome.stdout for outcome in outcomes] == ["one's\n", "two's\n"]


async def test_a_gates_socket_beside_another_is_refused(make_sandbox: MakeSandbox, make_spec: MakeSpec) -> None:
    (gate_socket(make_spec).parent / "control.sock").touch()
    with pytest.raises(ConfigError, match=r"control\.sock lies beside it"):
        await make_sandbox("true").create()


async def test_what_a_trial_may_not_ask_for_is_refused_before_anything_is_made(
    make_sandbox: MakeSandbox, tmp_path: Path
) -> None:
    wrong = [
        make_sandbox("true", network="host"),
        make_sandbox("true", mounts=("/var/run/docker.sock:/s",)),
        make_sandbox("true", workspace_path="output"),
    ]
    for sandbox in wrong:
        with pytest.raises(ConfigError):
            await sandbox.create()
        assert await sandbox.close() == {"agent": "ok", "gate": "ok"}
    assert containers_of(tmp_path) == []


NETWORK_FACTS = """
import json, os, socket
print(json.dumps({
    "hostname": socket.gethostname(),
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "host": socket.gethostbyname("host.docker.internal"),
    "named": socket.gethostbyname("db.example"),
}))
"""


async def test_an_open_trial_has_its_network_and_the_users_options_of_it(
    make_sandbox: MakeSandbox, make_spec: MakeSpec
) -> None:
    options = ("-h", "box", "--add-host=db.example:10.1.2.3")
    sandbox = make_sandbox(*python(f"{NETWORK_FACTS}{GET}", BASE_URL), network="bridge", docker_args=options)
    async with ProxyPart(gate_socket(make_spec), "served") as proxy:
        await sandbox.create()
        await proxy.ready()
        facts, served, *_ = (await read_all(await sandbox.start())).stdout.splitlines()
    found = json.loads(facts)
    assert served == "served"
    assert found["hostname"] == "box"
    assert found["interfaces"] == ["eth0", "lo"]
    assert found["named"] == "10.1.2.3"
    assert found["host"]


async def test_a_network_that_does_not_exist_is_named(make_sandbox: MakeSandbox) -> None:
    with pytest.raises(DockerError, match=r"network.* no-such-net.*not found"):
        await make_sandbox("true", network="no-such-net").create()
