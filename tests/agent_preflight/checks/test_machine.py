"""The checks of this machine: its clock, its disk, its Docker engine, the agents' image."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent_preflight.checks import machine
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.report import CheckLine
from agent_preflight.checks.suite import BUILT_IN, DEFAULT
from tests.agent_preflight.conftest import Seen
from tests.support.cases import each
from tests.support.engine_thread import serve_in_thread
from tests.support.scripted_engine import Fail, ScriptedEngine
from tests.support.unprivileged import unprivileged

NOON = datetime(2026, 10, 9, 12, 0, 0, 400_000, tzinfo=UTC)
INPUTS = Inputs("admin", "key", (), 1.0)
IMAGE_INPUTS = Inputs("admin", "key", (), 1.0, docker_image="img")


Check = Callable[[Inputs, Facts], list[CheckLine]]


def ask(check: Check, inputs: Inputs = INPUTS) -> CheckLine:
    (line,) = check(inputs, Facts(inputs))
    return line


@each(
    "date, ahead_s",
    [
        ("Fri, 09 Oct 2026 12:00:00 GMT", 0.0),
        ("Fri, 09 Oct 2026 12:00:01 GMT", -0.1),
        ("Fri, 09 Oct 2026 12:01:00 GMT", -59.1),
        ("Fri, 09 Oct 2026 11:59:00 GMT", 59.4),
    ],
)
def test_a_clock_is_compared_within_the_precision_of_an_answer(date: str, ahead_s: float) -> None:
    assert machine.seconds_ahead(NOON, 0.5, {"Date": date}) == pytest.approx(ahead_s)


@each("headers", [{}, {"Date": "noon"}, {"Date": "Fri, 09 Oct 2026 12:00:00"}])
def test_without_a_readable_time_there_is_no_comparison(headers: dict[str, str]) -> None:
    assert machine.seconds_ahead(NOON, 0.5, headers) is None


@each("ahead_s, ok", [(0.0, True), (-20.0, True), (31.0, None), (-601.0, False)])
def test_a_clock_that_is_off_warns_and_one_that_is_far_off_fails(ahead_s: float, ok: bool | None) -> None:
    line = machine.offset_line(ahead_s)
    assert line.ok is ok
    assert bool(line.failure) is (ok is False)


def test_a_clock_that_is_behind_is_reported_as_behind() -> None:
    assert machine.offset_line(-601.0).detail == "601 s behind OpenRouter's"


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
def test_without_an_answer_the_clock_check_fails_with_the_reason(serve: Callable[..., object]) -> None:
    serve(lambda _request: None)
    assert ask(machine.check_clock).failure.startswith("Clock: no answer to compare with")


def test_a_disk_with_little_room_warns_and_with_less_fails(tmp_path: Path) -> None:
    free = (machine.DISK_WARN_BYTES, machine.DISK_WARN_BYTES - 1, machine.DISK_FAIL_BYTES - 1)
    assert [machine.disk_line(tmp_path, each).ok for each in free] == [True, None, False]
    assert "MiB free" in machine.disk_line(tmp_path, 0).failure


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    line = machine.disk_line(tmp_path / "absent", machine.DISK_WARN_BYTES)
    assert "cannot be written" in line.failure


def test_the_folders_of_a_run_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = machine.check_disk(INPUTS, Facts(INPUTS))
    assert lines[0].name == f"Disk {tmp_path}", "runs/ is not there yet"
    assert len(lines) == 2


@pytest.mark.wire
def test_an_engine_on_this_machine_passes_with_its_version(docker_host: ScriptedEngine) -> None:
    line = ask(machine.check_docker_socket)
    assert (line.ok, line.detail) == (True, f"20.10.24 at {docker_host.url}")


@pytest.mark.wire
def test_an_engine_that_is_reached_by_a_network_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_in_thread() as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        line = ask(machine.check_docker_socket)
    assert line.ok is None
    assert "not on this machine" in line.detail


@pytest.mark.wire
def test_an_engine_that_fails_is_a_failure_with_its_reason(docker_host: ScriptedEngine) -> None:
    docker_host.script("GET /version", Fail(503, "starting up"))
    line = ask(machine.check_docker_socket)
    assert line.ok is False
    assert "starting up" in line.failure


@pytest.mark.wire
def test_an_engine_that_this_user_may_not_use_fails_and_says_what_to_do(
    docker_host: ScriptedEngine,
) -> None:
    Path(docker_host.url.removeprefix("unix://")).chmod(0)
    with unprivileged():
        line = ask(machine.check_docker_socket)
    assert line.ok is False
    assert "add yourself to the group docker" in line.failure


@pytest.mark.wire
def test_without_an_engine_the_check_fails_and_says_what_to_do(no_engine: str) -> None:
    failure = ask(machine.check_docker_socket).failure
    assert failure.startswith("Docker engine: ")
    assert f"no Docker engine answers at {no_engine}" in failure
    assert "Start Docker" in failure


@pytest.mark.wire
def test_an_engine_that_does_not_answer_is_not_reported_as_a_missing_image(no_engine: str) -> None:
    (line,) = machine.check_docker_image(IMAGE_INPUTS, Facts(IMAGE_INPUTS))
    assert line.failure.startswith("Docker image 'img': looking for ")
    assert f"no Docker engine answers at {no_engine}" in line.failure


@pytest.mark.wire
def test_an_engine_that_fails_is_not_reported_as_a_missing_image(docker_host: ScriptedEngine) -> None:
    docker_host.script("GET /images/*/json", Fail(500, "the disk is broken"))
    (line,) = machine.check_docker_image(IMAGE_INPUTS, Facts(IMAGE_INPUTS))
    assert line.failure == "Docker image 'img': looking for the image img: the disk is broken"


@pytest.mark.wire
@pytest.mark.parametrize(
    ("created", "shown"),
    [
        ("2026-01-02T03:04:05.123456789Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.1+02:00", "2026-01-02T01:04:05Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+02:00", "0001-01-01T00:00:00"),
        ("2026-01-02T03:04:05.1", "2026-01-02T03:04:05"),
        ("some day in the year before last", "some day in the yea"),
    ],
)
def test_the_date_of_an_image_is_shown_in_utc(docker_host: ScriptedEngine, created: str, shown: str) -> None:
    docker_host.state.images["img"] = {"Id": "sha256:img", "Created": created}
    (line,) = machine.check_docker_image(IMAGE_INPUTS, Facts(IMAGE_INPUTS))
    assert (line.ok, line.detail) == (True, f"created {shown}")


def test_the_machine_checks_run_only_if_they_are_named() -> None:
    names = {"clock", "disk", "docker_socket", "proxy_path"}
    assert names <= BUILT_IN.keys()
    assert not names & set(DEFAULT)
