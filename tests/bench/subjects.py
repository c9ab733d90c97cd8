"""The subjects: no proxy, a naive pass-through, nginx and LiteLLM where installed, and ours with everything on.

Each is started in a folder of its own, on the subject's core, and ended with all that it started.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path

import psutil

from tests.bench import machine
from tests.bench.certificate import Certificate
from tests.bench.load import Target
from tests.bench.upstream import MODEL, PUSD_PER_USD, Behaviour

START_S_MAX = 60.0
STOP_S_MAX = 20.0
KEY = "sk-or-v1-" + "0" * 64
ACCOUNT = "default"
BUDGET_USD = "100000"
CALLS_PATH = "/api/v1/chat/completions"
PROGRAM = Path(sys.executable).with_name("agent-preflight")
LITELLM = Path(sys.executable).with_name("litellm")
ROOT = Path(__file__).resolve().parents[2]


class SubjectError(Exception):
    """A subject did not start; its last lines are in the text."""


@dataclass(frozen=True, slots=True)
class Running:
    """A subject that serves; without a process it is the upstream itself."""

    name: str
    target: Target
    process: psutil.Process | None
    start_s: float
    """From its start until it listened."""
    data: Path

    def cpu_s(self) -> float:
        """Return the CPU that it and its children have used, in seconds."""
        return sum(sum(each.cpu_times()[:2]) for each in self._processes())

    def rss_mib(self) -> float:
        """Return the memory that it and its children hold, in MiB."""
        return sum(each.memory_info().rss for each in self._processes()) / 2**20

    def _processes(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)] if self.process else []


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of subject: its name, and how it is started."""

    name: str
    start: Callable[[Path, Upstream], Started]

    @contextmanager
    def serving(self, folder: Path, upstream: Upstream) -> Iterator[Running]:
        """Serve in a folder, which a subject that keeps state may find as an earlier start left it.

        Raises:
            SubjectError: It did not start.
        """
        folder.mkdir(parents=True, exist_ok=True)
        began_s = time.monotonic()
        with machine.subject_core():
            started = self.start(folder, upstream)
        with ended(started.process):
            target = started.wait()
            process = psutil.Process(started.process.pid) if started.process else None
            yield Running(self.name, target, process, time.monotonic() - began_s, folder)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The constant upstream as a process."""

    port: int
    certificate: Certificate | None

    @property
    def origin(self) -> str:
        """Scheme and authority."""
        return f"https://localhost:{self.port}" if self.certificate else f"http://127.0.0.1:{self.port}"

    def trust(self) -> dict[str, str]:
        """Return the environment of a subject that is to trust it."""
        return {"SSL_CERT_FILE": str(self.certificate.authority)} if self.certificate else {}

    def behave(self, behaviour: Behaviour) -> None:
        """Answer the next calls so."""
        fields = {name: getattr(behaviour, name) for name in Behaviour.__slots__}
        self.ask("POST", "/bench/behaviour", json.dumps(fields).encode())

    def bill(self) -> tuple[int, int]:
        """Return how many calls it answered and what they cost, in pico-dollars."""
        bill = json.loads(self.ask("GET", "/bench/bill"))
        return bill["calls"], bill["billed_pusd"]

    def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Return the body of its answer to a request of the bench; plain TCP only."""
        with socket.create_connection(("127.0.0.1", self.port), START_S_MAX) as connection:
            head = f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            with connection.makefile("rb") as answer:
                size = 0
                while (line := answer.readline()) not in (b"\r\n", b""):
                    if line.lower().startswith(b"content-length:"):
                        size = int(line.split(b":")[1])
                return answer.read(size)


@contextmanager
def constant_upstream(certificate: Certificate | None = None) -> Iterator[Upstream]:
    """Serve the constant upstream, on the load's core."""
    command = [sys.executable, "-m", "tests.bench.upstream"]
    if certificate:
        command += ["--certificate", str(certificate.chain)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    with ended(process):
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SubjectError("the upstream did not start")
        yield Upstream(int(line), certificate)


@dataclass(frozen=True, slots=True)
class Started:
    """A subject that was started, and how to wait until it serves."""

    process: subprocess.Popen[bytes] | None
    wait: Callable[[], Target]


def _no_proxy(_folder: Path, upstream: Upstream) -> Started:
    return Started(None, lambda: Target(upstream.port, CALLS_PATH, (KEY,)))


def _naive(folder: Path, upstream: Upstream) -> Started:
    port = free_port()
    command = [sys.executable, str(Path(__file__).with_name("naive.py")), str(port), upstream.origin]
    process = _start(command, folder, upstream.trust())
    return Started(process, lambda: _listening(process, folder, Target(port, CALLS_PATH, (KEY,))))


def _ours(folder: Path, upstream: Upstream) -> Started:
    """Start a stand-alone proxy as a user does: default durability, all files on."""
    return start_ours(folder, upstream, {ACCOUNT: BUDGET_USD})


def start_ours(folder: Path, upstream: Upstream, accounts: Mapping[str, str]) -> Started:
    """Start a stand-alone proxy with accounts (name to dollars); agents take turns with them."""
    ready = folder / "ready.json"
    ready.unlink(missing_ok=True)
    command = [str(PROGRAM), "proxy", "--listen", "127.0.0.1:0"]
    command += ["--data", str(folder / "data"), "--ready-file", str(ready)]
    command += [part for name, usd in accounts.items() for part in ("--account", f"{name}={usd}")]
    keys = {"OPENROUTER_BASE_URL": f"{upstream.origin}/api/v1", "OPENROUTER_API_KEY": KEY}
    process = _start(command, folder, {**upstream.trust(), **keys, "XDG_STATE_HOME": str(folder / "state")})

    def wait() -> Target:
        _until(process, folder, lambda: ready.is_file() and ready.stat().st_size > 0)
        facts = json.loads(ready.read_text("utf-8"))
        tokens = tuple(facts["accounts"][name]["api_key"] for name in accounts)
        return Target(int(facts["base_url"].split(":")[2].split("/")[0]), CALLS_PATH, tokens)

    return Started(process, wait)


def posted_pusd(ours: Running) -> int:
    """Return what a proxy of ours has posted, once nothing is reserved any more.

    Raises:
        SubjectError: A call is not settled.
    """
    command = [str(PROGRAM), "proxy", "status", "--data", str(ours.data / "data"), "--json"]
    until_s = time.monotonic() + STOP_S_MAX
    while time.monotonic() < until_s:
        accounts = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["accounts"]
        if all(Decimal(account["reserved_usd"]) == 0 for account in accounts):
            return int(sum(Decimal(account["spent_usd"]) for account in accounts) * PUSD_PER_USD)
        time.sleep(0.1)
    raise SubjectError(f"a call of ours is not settled after {STOP_S_MAX:.0f} s")


NGINX_CONFIG = """
daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 16384; }}
http {{
  access_log off; client_max_body_size 64m; client_body_buffer_size 64m; keepalive_requests 10000000;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  upstream up {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=8192;
    location / {{ proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""


def _nginx(folder: Path, upstream: Upstream) -> Started:
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX_CONFIG.format(upstream=upstream.port, port=port), "utf-8")
    process = _start([_nginx_program() or "nginx", "-p", str(folder), "-c", str(config)], folder, {})
    return Started(process, lambda: _listening(process, folder, Target(port, CALLS_PATH, (KEY,))))


def _nginx_program() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


def _litellm(folder: Path, upstream: Upstream) -> Started:
    port = free_port()
    target = {"model": f"openai/{MODEL}", "api_base": f"{upstream.origin}/api/v1", "api_key": KEY}
    config = folder / "config.json"
    config.write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": target}]}), "utf-8")
    command = [
        str(LITELLM),
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--telemetry",
        "False",
    ]
    process = _start(command, folder, {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
    return Started(process, lambda: _listening(process, folder, Target(port, "/v1/chat/completions", (KEY,))))


NO_PROXY, NAIVE, OURS = Kind("no proxy", _no_proxy), Kind("naive", _naive), Kind("ours", _ours)
NGINX, LITELLM_PROXY = Kind("nginx", _nginx), Kind("litellm", _litellm)


def installed_kinds() -> list[Kind]:
    """Return the kinds of subjects that this machine has, in the order in which each round asks them."""
    has_litellm = LITELLM.is_file() and all(map(find_spec, ("fastapi", "uvicorn")))
    return [
        *(NO_PROXY, NAIVE, OURS),
        *([NGINX] if _nginx_program() else []),
        *([LITELLM_PROXY] if has_litellm else []),
    ]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert isinstance(port, int)
    return port


def _start(command: list[str], folder: Path, more: Mapping[str, str]) -> subprocess.Popen[bytes]:
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    environment = {name: value for name, value in os.environ.items() if name.lower() not in proxies} | dict(more)
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=environment
        )


def _listening(process: subprocess.Popen[bytes], folder: Path, target: Target) -> Target:
    def answers() -> bool:
        try:
            socket.create_connection(("127.0.0.1", target.port), 1.0).close()
        except OSError:
            return False
        return True

    _until(process, folder, answers)
    return target


def _until(process: subprocess.Popen[bytes], folder: Path, condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + START_S_MAX
    while not condition():
        if process.poll() is not None or time.monotonic() > until_s:
            raise SubjectError(f"{process.args!r} did not start: {(folder / 'log').read_text('utf-8')[-3000:]}")
        time.sleep(0.002)


@contextmanager
def ended(process: subprocess.Popen[bytes] | None) -> Iterator[None]:
    """End a process and its children with the block."""
    try:
        yield
    finally:
        if process is not None:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            try:
                process.wait(STOP_S_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for child in psutil.wait_procs(children, STOP_S_MAX)[1]:
                child.kill()
            if process.stdout:
                process.stdout.close()
