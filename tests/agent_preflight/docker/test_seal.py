"""What an agent in a sealed trial can reach: only loopback, and on it only what the gate listens on. The probe runs as root."""

from __future__ import annotations

import asyncio
import json
import platform
from pathlib import Path
from typing import Any

import pytest

from agent_preflight.docker import sandbox
from agent_preflight.docker.sandbox import NOT_OF_INIT, seccomp_profile
from agent_preflight.sandboxes.interface import Exit
from tests.agent_preflight.docker.conftest import MakeSandbox, read_all
from tests.support.cases import each

PROBE = r"""
import ctypes, errno, json, os, socket, struct, subprocess, sys

def tried(action):
    try:
        value = action()
    except OSError as error:
        return errno.errorcode.get(error.errno, type(error).__name__ + str(error.errno))
    return "reached" if value is None else value

def connect(address, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    with socket.socket(family, kind) as sock:
        sock.settimeout(2)
        sock.connect(address)

def call(number, *args):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *args) == -1:
        raise OSError(ctypes.get_errno(), "refused")

def own_routes():
    return open("/proc/net/route").read().splitlines()[1:]

def traced():
    if (child := os.fork()) == 0:
        os.pause() if hasattr(os, "pause") else __import__("signal").pause()
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.ptrace(16, child, None, None)
    os.waitpid(child, 0x40000000 | 2)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return result

THREAD = "import threading; threading.Thread(target=int).start()"
print(json.dumps({
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "routes": own_routes(),
    "internet": tried(lambda: connect(("1.1.1.1", 443))),
    "docker host": tried(lambda: connect(("172.17.0.1", 22))),
    "metadata": tried(lambda: connect(("169.254.169.254", 80))),
    "dns": tried(lambda: socket.getaddrinfo("example.com", 80) and None),
    "docker dns": tried(lambda: connect(("127.0.0.11", 53))),
    "ipv6": tried(lambda: connect(("2606:4700::1111", 443), socket.AF_INET6)),
    "raw": tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1) and None),
    "packet": tried(lambda: socket.socket(17, socket.SOCK_RAW, 0) and None),
    "vsock": tried(lambda: socket.socket(40, socket.SOCK_STREAM) and None),
    "alg": tried(lambda: socket.socket(38, socket.SOCK_SEQPACKET) and None),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) and None),
    "unshare user": tried(lambda: call(272, 0x10000000)),
    "setns": tried(lambda: call(308, 0, 0)),
    "mount": tried(lambda: call(165, b"none", b"/mnt", b"tmpfs", 0, 0)),
    "bpf": tried(lambda: call(321, 0, 0, 0)),
    "io_uring": tried(lambda: call(425, 1, 0)),
    "keyctl": tried(lambda: call(250, 0, 0)),
    "userfaultfd": tried(lambda: call(323, 0)),
    "clone3": tried(lambda: call(435, 0, 0)),
    "capabilities": [line.split()[1] for line in open("/proc/self/status") if line.startswith("CapEff")][0],
    "no_new_privs": [line.split()[1] for line in open("/proc/self/status") if line.startswith("NoNewPrivs")][0],
    "unix sockets": [line.split()[-1] for line in open("/proc/net/unix") if "/" in line],
    "engine": os.path.exists("/run/docker.sock") or os.path.exists("/var/run/docker.sock"),
    "gate files": os.path.exists("/run/preflight-gate"),
    "budget": tried(lambda: open("/run/preflight/budget.txt", "w") and None),
    "traced children": [traced() for _ in range(8)],
    "threads and children": subprocess.run([sys.executable, "-c", THREAD]).returncode,
    "fifo": tried(lambda: os.mkfifo("/tmp/fifo")),
}))
"""


@pytest.mark.docker
async def test_a_sealed_agent_finds_no_way_out(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox("python3", "-c", PROBE)
    await sandbox.create()
    outcome = await read_all(await sandbox.start())
    found: dict[str, Any] = json.loads(outcome.stdout or outcome.stderr)
    no_route = {"ENETUNREACH", "EADDRNOTAVAIL", "EAFNOSUPPORT"}
    assert found["interfaces"] == ["lo"]
    assert found["routes"] == []
    for way in ("internet", "docker host", "metadata", "ipv6"):
        assert found[way] in no_route, way
    assert found["docker dns"] == "ECONNREFUSED"
    assert found["dns"] not in (None, "reached")
    for way in (
        "raw",
        "packet",
        "vsock",
        "alg",
        "unshare user",
        "setns",
        "mount",
        "bpf",
        "io_uring",
        "keyctl",
        "userfaultfd",
    ):
        assert found[way] == "EPERM", way
    assert found["clone3"] == "ENOSYS"
    assert found["no_new_privs"] == "1"
    assert int(found["capabilities"], 16) == sum(1 << bit for bit in (0, 1, 3, 4, 5, 6, 7))
    assert not found["engine"]
    assert not found["gate files"]
    assert found["budget"] == "EROFS"
    assert found["traced children"] == [0] * 8
    assert (found["netlink"], found["fifo"], found["threads and children"]) == ("reached", "reached", 0)


@pytest.mark.docker
@pytest.mark.skipif(platform.machine() != "x86_64", reason="what is written is x86 code")
async def test_an_agent_that_overwrites_its_init_is_ended_all_the_same(make_sandbox: MakeSandbox) -> None:
    text = """
text = next(line for line in open("/proc/1/maps") if " r-xp " in line)
start, end = (int(part, 16) for part in text.split()[0].split("-"))
with open("/proc/1/mem", "r+b", 0) as memory:
    memory.seek(start)
    print(memory.write(b"\\x90" * (end - start - 2) + b"\\xeb\\xfe") > 0)  # nothing at all, then a loop without end
"""
    sandbox = make_sandbox("python3", "-c", text)
    await sandbox.create()
    pipes = await sandbox.start()
    assert await pipes.stdout.readline() == b"True\n"
    waiting = asyncio.ensure_future(sandbox.wait())
    await asyncio.wait([waiting], timeout=1)
    assert not waiting.done()
    assert await sandbox.kill() == "ok"
    assert (await waiting).code == 137


I386 = r"""
import os, struct
code = b"\xb8\x01\0\0\0\x31\xdb\xcd\x80"  # exit(0) as a 32-bit program asks for it
header = struct.pack("<16s2H5I6H", b"\x7fELF\x01\x01\x01", 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
segment = struct.pack("<8I", 1, 0, 0x8048000, 0x8048000, 84 + len(code), 84 + len(code), 5, 4096)
open("/tmp/program", "wb").write(header + segment + code)
os.chmod("/tmp/program", 0o755)
os.execv("/tmp/program", ["program"])
"""


@pytest.mark.docker
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is for a 32-bit x86")
@pytest.mark.parametrize("network", ["sealed", "bridge"])
async def test_a_32_bit_program_is_killed_at_its_first_system_call(make_sandbox: MakeSandbox, network: str) -> None:
    sandbox = make_sandbox("python3", "-c", I386, network=network)
    await sandbox.create()
    outcome = await read_all(await sandbox.start())
    assert (outcome.stdout, await sandbox.wait()) == ("", Exit(159, bad_system_call=True)), outcome.stderr


@pytest.mark.docker
async def test_a_flood_of_processes_ends_at_the_limit(make_sandbox: MakeSandbox) -> None:
    text = "import os, sys\nfor n in range(9000):\n  try:\n    os.fork() or os.pause()\n  except OSError: sys.exit(print(n))"
    text = text.replace("os.pause()", "__import__('signal').pause()")
    sandbox = make_sandbox("python3", "-c", text, docker_args=("--pids-limit=64",))
    await sandbox.create()
    assert int((await read_all(await sandbox.start())).stdout) < 64


def rules() -> list[dict[str, Any]]:
    profile = json.loads(seccomp_profile())
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    syscalls: list[dict[str, Any]] = profile["syscalls"]
    return syscalls


def admits(name: str, *args: int) -> bool:
    """Whether a call with these arguments is allowed."""
    return any(
        rule["action"] == "SCMP_ACT_ALLOW" and all(holds(each, args) for each in rule.get("args", ()))
        for rule in rules()
        if name in rule["names"]
    )


def holds(condition: dict[str, Any], args: tuple[int, ...]) -> bool:
    value, wanted = args[condition["index"]], condition["value"]
    if condition["op"] == "SCMP_CMP_MASKED_EQ":
        return bool(value & wanted == condition["valueTwo"])
    assert condition["op"] == "SCMP_CMP_EQ"
    return bool(value == wanted)


def allowed() -> set[str]:
    return {
        name for rule in rules() if rule["action"] == "SCMP_ACT_ALLOW" and "args" not in rule for name in rule["names"]
    }


DANGEROUS = (
    "socket socketcall clone clone3 unshare setns mount umount2 move_mount fsopen open_tree pivot_root bpf perf_event_open "
    "io_uring_setup io_uring_enter keyctl add_key request_key userfaultfd kexec_load init_module finit_module delete_module "
    "reboot swapon iopl ioperm open_by_handle_at quotactl acct settimeofday clock_settime syslog vhangup chroot"
)


@each("name", DANGEROUS.split())
def test_a_dangerous_call_is_not_allowed_whatever_its_arguments(name: str) -> None:
    assert name not in allowed()


def test_the_profile_is_for_the_machines_own_system_calls_alone() -> None:
    profile = json.loads(seccomp_profile())
    assert not {"archMap", "architectures"} & profile.keys()
    assert not [rule for rule in rules() if rule.keys() & {"includes", "excludes"}]


def test_sockets_are_of_four_families() -> None:
    families = {rule["args"][0]["value"] for rule in rules() if rule["names"] == ["socket"]}
    assert families == {1, 2, 10, 16}


INIT = [high << 32 | 1 for high in (0, 1, 2, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)]
OTHERS = [0, *range(2, 70), *(1 << bit for bit in range(1, 32)), *((1 << bit) + 1 for bit in range(1, 32)), 0xFFFFFFFF]


def test_nobody_traces_the_first_process_of_a_container_by_whatever_value_names_it() -> None:
    requests = (0, 1, 16, 17, 0x4200, 0x4206, 0x4207)
    assert not [(request, pid) for request in requests for pid in INIT if admits("ptrace", request, pid)]
    assert not [pid for pid in INIT if admits("process_vm_writev", pid)]


def test_every_other_process_may_be_traced() -> None:
    assert [pid for pid in OTHERS if not admits("ptrace", 16, pid)] == []
    assert [pid for pid in OTHERS if not admits("process_vm_writev", pid)] == []


def test_the_profile_is_a_file_of_the_package_and_the_rules_about_the_first_process() -> None:
    file = json.loads(Path(sandbox.__file__).with_name("seccomp.json").read_text())
    assert rules()[: len(file["syscalls"])] == file["syscalls"]
    assert {name for rule in rules()[len(file["syscalls"]) :] for name in rule["names"]} == set(NOT_OF_INIT)
    assert file | {"syscalls": rules()} == json.loads(seccomp_profile())
