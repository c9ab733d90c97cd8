"""What this machine must be like before a run: its clock, its disk, its Docker engine."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_preflight.checks import machine
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import Line
from agent_preflight.preflight import BUILT_IN, DEFAULT
from tests.agent_preflight.conftest import Seen
from tests.cases import each

NOON = datetime(2026, 10, 9, 12, 0, 0, 400_000, tzinfo=UTC)
INPUTS = Inputs("admin", "key", (), 1.0)

Check = Callable[[Inputs, Facts], list[Line]]


def ask(check: Check, inputs: Inputs = INPUTS) -> Line:
    (line,) = check(inputs, Facts(inputs))
    return line


@each(
    "told, ahead_s",
    [
        ("Fri, 09 Oct 2026 12:00:00 GMT", 0.0),
        ("Fri, 09 Oct 2026 12:00:01 GMT", -0.1),
        ("Fri, 09 Oct 2026 12:01:00 GMT", -59.1),
        ("Fri, 09 Oct 2026 11:59:00 GMT", 59.4),
    ],
)
def test_a_clock_is_compared_within_what_an_answer_can_tell(told: str, ahead_s: float) -> None:
    assert machine.seconds_ahead(NOON, 0.5, {"Date": told}) == pytest.approx(ahead_s)


@each("headers", [{}, {"Date": "noon"}, {"Date": "Fri, 09 Oct 2026 12:00:00"}])
def test_an_answer_without_a_readable_time_tells_nothing(headers: dict[str, str]) -> None:
    assert machine.seconds_ahead(NOON, 0.5, headers) is None


@each("ahead_s, ok", [(0.0, True), (-20.0, True), (31.0, None), (-601.0, False)])
def test_the_further_off_the_worse(ahead_s: float, ok: bool | None) -> None:
    line = machine.clock_line(ahead_s)
    assert line.ok is ok
    assert bool(line.failure) is (ok is False)


def test_a_clock_behind_says_so() -> None:
    assert machine.clock_line(-601.0).detail == "601 s behind OpenRouter's"


@pytest.mark.wire
def test_the_clock_is_compared_without_showing_a_key(serve: Callable[..., object]) -> None:
    seen: list[dict[str, str]] = []

    def answer(request: Seen) -> tuple[int, object]:
        seen.append(request.headers)
        return 401, {}

    serve(answer)
    assert ask(machine.check_clock).ok is True
    assert "Authorization" not in seen[0]


@pytest.mark.wire
def test_without_an_answer_the_clock_is_a_failure_with_its_reason(serve: Callable[..., object]) -> None:
    serve(lambda _request: None)
    assert ask(machine.check_clock).failure.startswith("Clock: no answer to compare with")


def test_a_disk_with_room_passes_and_the_less_the_worse(tmp_path: Path) -> None:
    free = (machine.DISK_WARN_BYTES, machine.DISK_WARN_BYTES - 1, machine.DISK_FAIL_BYTES - 1)
    assert [machine.disk_line(tmp_path, each).ok for each in free] == [True, None, False]
    assert "MiB free" in machine.disk_line(tmp_path, 0).failure


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path: Path) -> None:
    line = machine.disk_line(tmp_path / "absent", machine.DISK_WARN_BYTES)
    assert "cannot be written" in line.failure


def test_the_folders_that_are_looked_at_are_those_a_run_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = machine.check_disk(INPUTS, Facts(INPUTS))
    assert lines[0].name == f"Disk {tmp_path}", "runs/ is not there yet"
    assert len(lines) == 2


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def install(script: str) -> None:
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "docker").chmod(0o755)

    return install


ANSWERS = 'case $1 in version) echo "27.0 linux";; context) echo "%s";; esac'


@pytest.mark.wire
@pytest.mark.parametrize(
    ("script", "ok", "words"),
    [
        (ANSWERS % "unix:///run/docker.sock", True, "27.0 linux at unix:///run/docker.sock"),
        (ANSWERS % "", True, "27.0 linux"),
        (ANSWERS % "ssh://elsewhere", None, "not on this machine"),
        ("echo 'permission denied while connecting' >&2; exit 1", False, "add yourself to the group docker"),
        ("echo 'Cannot connect to the Docker daemon' >&2; exit 1", False, "start the engine"),
        ("exit 0", False, "no engine answers"),
    ],
)
def test_an_engine_answers_here_or_it_is_said_why_not(
    docker: Callable[[str], None], script: str, ok: bool | None, words: str
) -> None:
    docker(script)
    line = ask(machine.check_docker_socket)
    assert line.ok is ok
    assert words in f"{line.detail} {line.failure}"


@pytest.mark.wire
def test_an_engine_whose_address_is_not_told_still_answers(docker: Callable[[str], None]) -> None:
    docker('[ "$1" = version ] && echo 27.0')
    assert ask(machine.check_docker_socket).ok is True


def test_without_a_docker_command_there_is_no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask(machine.check_docker_socket).failure.startswith("Docker engine: docker CLI not found -> ")


def test_they_run_only_where_they_are_named() -> None:
    names = {"clock", "disk", "docker_socket", "proxy_path"}
    assert names <= BUILT_IN.keys()
    assert not names & set(DEFAULT)
