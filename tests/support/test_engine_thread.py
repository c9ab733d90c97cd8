"""The scripted engine in a thread, as code that is not async sees it."""

import pytest

from agent_preflight.engine.client import on_engine
from agent_preflight.engine.failure import DockerError, Failure
from tests.support.engine_thread import docker_host, no_engine, serve_in_thread
from tests.support.scripted_engine import Fail, ScriptedEngine

__all__ = ["docker_host", "no_engine"]

pytestmark = pytest.mark.wire


def test_code_that_is_not_async_is_answered(docker_host: ScriptedEngine) -> None:
    assert on_engine(lambda engine: engine.info())["ID"] == "SCRIPTED"
    docker_host.script("GET /info", Fail(500, "no"))
    with pytest.raises(DockerError, match="no"):
        on_engine(lambda engine: engine.info())
    assert docker_host.calls.count("GET /info") == 2


def test_without_a_path_it_serves_at_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_in_thread() as engine:
        monkeypatch.setenv("DOCKER_HOST", engine.url)
        assert engine.url.startswith("tcp://127.0.0.1:")
        assert on_engine(lambda engine: engine.image("me/agent")) is not None


def test_where_there_is_none_nothing_answers(no_engine: str) -> None:
    with pytest.raises(DockerError) as caught:
        on_engine(lambda engine: engine.info())
    assert caught.value.failure is Failure.UNREACHABLE


def test_what_fails_in_the_engine_itself_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    serving = serve_in_thread()
    engine = serving.__enter__()
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    engine.state.info = {"ID": object()}
    with pytest.raises(DockerError):
        on_engine(lambda engine: engine.info())
    with pytest.raises(ExceptionGroup, match="itself failed"):
        serving.__exit__(None, None, None)
