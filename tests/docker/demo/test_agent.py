"""The four demo agents as real processes, against a small server that counts their calls and refuses when told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.wire

AGENT = Path(__file__).parents[3] / "docker" / "demo" / "agent.py"
SPENT = "Budget spent. This run has used its whole allowance. Do not retry."
USAGE = {"prompt_tokens": 10, "completion_tokens": 3, "total_tokens": 13, "cost": 0.0001}


@dataclass
class Upstream:
    """An OpenAI-shaped server of one path.

    Attributes:
        refuse_after: How many calls it answers before it refuses all.
        cut: Streams end without their last event.
        together: Calls that must have arrived before any of them is answered.
    """

    refuse_after: int = 1000
    cut: bool = False
    bodies: list[dict[str, Any]] = field(default_factory=list)
    together: threading.Barrier | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        assert handler.headers["Authorization"] == "Bearer pf-test"
        with self.lock:
            self.bodies.append(body)
            refused = len(self.bodies) > self.refuse_after
        if self.together is not None:
            self.together.wait(timeout=20)
        self._reply(handler, body, refused)

    def _reply(self, handler: BaseHTTPRequestHandler, body: dict[str, Any], refused: bool) -> None:
        if refused:
            self._send(handler, 402, "application/json", json.dumps({"error": {"code": 402, "message": SPENT}}))
        elif body["stream"]:
            first = {"choices": [{"delta": {"content": "some words"}}]}
            last = {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": USAGE}
            text = f": OPENROUTER PROCESSING\n\ndata: {json.dumps(first)}\n\n"
            text += "" if self.cut else f"data: {json.dumps(last)}\n\ndata: [DONE]\n\n"
            self._send(handler, 200, "text/event-stream", text)
        else:
            reply = {"choices": [{"message": {"content": "some words"}}], "usage": USAGE}
            self._send(handler, 200, "application/json", json.dumps(reply))

    def _send(self, handler: BaseHTTPRequestHandler, status: int, kind: str, text: str) -> None:
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(text)))
        handler.send_header("X-Budget-Available", "0.2")
        handler.end_headers()
        handler.wfile.write(text.encode())


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    found = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/api/v1/chat/completions"
            found.answer(self)

        def log_message(self, *_: object) -> None:
            """Keep the test's output clean."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        found.url = f"http://127.0.0.1:{server.server_port}/api/v1"
        yield found
        server.shutdown()
        thread.join()


def start(upstream: Upstream, mode: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    env = {
        "PATH": os.environ["PATH"],
        "OPENROUTER_BASE_URL": upstream.url,
        "OPENROUTER_API_KEY": "pf-test",
        "PREFLIGHT_MODEL": "maker/model",
    }
    command = [sys.executable, "-u", str(AGENT), mode, *arguments]
    return subprocess.Popen(
        command, env=env, cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def run(
    upstream: Upstream, mode: str, folder: Path, prompt: str | None = None, arguments: tuple[str, ...] = ()
) -> tuple[int, list[dict[str, Any]]]:
    """Run an agent to its end; stdin stays open all the while, as in a trial."""
    with start(upstream, mode, folder, *arguments) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if prompt is not None:
            process.stdin.write(json.dumps({"id": "init", "type": "prompt", "message": prompt}) + "\n")
            process.stdin.flush()
        events = [json.loads(line) for line in process.stdout]
        return process.wait(timeout=20), events


def test_the_thrifty_agent_does_its_task_in_a_few_calls(upstream: Upstream, tmp_path: Path) -> None:
    code, events = run(upstream, "thrifty", tmp_path, "Name three colours.")
    assert code == 0
    assert 2 <= len(upstream.bodies) <= 6
    assert upstream.bodies[0]["messages"][0] == {"role": "user", "content": "Name three colours."}
    assert events[0] == {"type": "agent_start", "model_id": "maker/model", "mode": "thrifty"}
    assert {body["model"] for body in upstream.bodies} == {"maker/model"}
    assert (events[-1]["type"], events[-1]["status"], events[-1]["output_file"]) == ("agent_end", "done", "answer.txt")
    assert (tmp_path / "answer.txt").read_text() == "some words"


def test_a_model_that_is_named_stands_before_the_trials(upstream: Upstream, tmp_path: Path) -> None:
    _, events = run(upstream, "thrifty", tmp_path, arguments=("--model", "maker/other"))
    assert events[0]["model_id"] == "maker/other"
    assert {body["model"] for body in upstream.bodies} == {"maker/other"}


def test_an_agent_without_a_prompt_does_not_wait_for_one(upstream: Upstream, tmp_path: Path) -> None:
    assert run(upstream, "thrifty", tmp_path)[0] == 0


def test_the_greedy_agent_sends_more_each_time_until_it_is_refused_and_says_so(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.refuse_after = 5
    code, events = run(upstream, "greedy", tmp_path)
    sizes = [len(json.dumps(body)) for body in upstream.bodies]
    assert code == 0
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == len(sizes) == 6
    assert all(body["stream"] for body in upstream.bodies)
    assert events[-1]["status"] == "budget_spent"
    assert SPENT in events[-1]["message"]


def test_the_parallel_agent_makes_sixteen_calls_at_once_until_one_is_refused(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.refuse_after = 40
    upstream.together = threading.Barrier(16)
    code, events = run(upstream, "parallel", tmp_path)
    assert code == 0
    assert len(upstream.bodies) == 48
    assert {body["stream"] for body in upstream.bodies} == {True, False}
    assert events[-1]["status"] == "budget_spent"


def test_the_idle_agent_makes_two_calls_and_then_nothing_until_it_is_ended(upstream: Upstream, tmp_path: Path) -> None:
    with start(upstream, "idle", tmp_path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert [json.loads(line)["type"] for line in lines] == ["agent_start", "message_end", "message_end"]
        assert process.poll() is None
        process.terminate()
        assert process.stdout.read() == ""
    assert len(upstream.bodies) == 2


def test_a_stream_that_breaks_off_is_a_failure_and_not_half_an_answer(upstream: Upstream, tmp_path: Path) -> None:
    upstream.cut = True
    code, events = run(upstream, "greedy", tmp_path)
    assert code == 1
    assert events[-1]["status"] == "failed"


def test_the_agents_events_have_the_usage_of_every_call(upstream: Upstream, tmp_path: Path) -> None:
    _, events = run(upstream, "thrifty", tmp_path)
    told = [event for event in events if event["type"] == "message_end"]
    assert [event["usage"] for event in told] == [USAGE] * len(upstream.bodies)
    assert told[0]["available_usd"] == "0.2"


def test_a_tool_that_starts_also_ends(upstream: Upstream, tmp_path: Path) -> None:
    upstream.refuse_after = 3
    _, events = run(upstream, "greedy", tmp_path)
    kinds = [event["type"] for event in events if "tool" in event["type"]]
    assert kinds == ["tool_execution_start", "tool_execution_end"] * (len(kinds) // 2)


def test_an_upstream_that_is_not_there_is_a_failure(upstream: Upstream, tmp_path: Path) -> None:
    upstream.url = "http://127.0.0.1:9/api/v1"
    code, events = run(upstream, "thrifty", tmp_path)
    assert code == 1
    assert "ConnectionRefusedError" in events[-1]["message"] or "URLError" in events[-1]["message"]
