"""Where the engine is looked for, and which version of its API is spoken."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent_preflight.engine import address
from agent_preflight.engine.address import API_TESTED, Version, negotiate
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError, Failure
from tests.support.cases import each
from tests.support.engine_certificates import certificates
from tests.support.scripted_engine import ScriptedEngine, Text

pytestmark = pytest.mark.wire

VARIABLES = ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "XDG_RUNTIME_DIR")


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, short_dir: Path) -> Path:
    """A home without any `.docker`, on a machine where no variable and no socket leads to an engine."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(address, "SYSTEM_SOCKET", short_dir / "none.sock")
    return tmp_path


Start = Callable[..., Awaitable[ScriptedEngine]]


@pytest.fixture
async def start(short_dir: Path, home: Path) -> AsyncIterator[Start]:
    """Start engines, each of which says its name when it is asked what it is."""
    async with AsyncExitStack() as stack:

        async def started(name: str, **how: Any) -> ScriptedEngine:
            engine = ScriptedEngine(**how) if how else ScriptedEngine(short_dir / f"{name}.sock")
            engine.state.info["ID"] = name
            return await stack.enter_async_context(engine)

        yield started


async def found(url: str | None = None) -> str:
    """The name of the engine that is found."""
    async with Engine.open(url) as engine:
        apart, told = str((await engine.apart().info())["ID"]), str((await engine.info())["ID"])
    assert apart == told
    return told


def write_context(home: Path, name: str, meta: object, tls: Path | None = None) -> None:
    """Write a context as docker's command line does."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    folder = home / ".docker" / "contexts" / "meta" / digest
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text(meta if isinstance(meta, str) else json.dumps(meta))
    if tls is not None:
        there = home / ".docker" / "contexts" / "tls" / digest
        there.mkdir(parents=True)
        (there / "docker").symlink_to(tls)


def endpoint(url: str) -> dict[str, Any]:
    return {"Name": "mine", "Endpoints": {"docker": {"Host": url, "SkipTLSVerify": False}}}


def choose_context(home: Path, name: str) -> Path:
    """Make a context the current one."""
    config = home / ".docker" / "config.json"
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps({"currentContext": name}))
    return config


async def test_an_address_then_docker_host_then_contexts_then_sockets_name_the_engine(
    start: Start, home: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("given", "host", "named", "current", "usual", "docker")
    engines = {name: await start(name) for name in names}
    monkeypatch.setenv("DOCKER_HOST", engines["host"].url)
    for name in ("named", "current"):
        write_context(home, name, endpoint(engines[name].url))
    monkeypatch.setenv("DOCKER_CONTEXT", "named")
    config = choose_context(home, "current")
    monkeypatch.setattr(address, "SYSTEM_SOCKET", short_dir / "usual.sock")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))  # where `docker.sock` is that of an engine without root
    assert await found(engines["given"].url) == "given"
    assert await found() == "host"
    monkeypatch.delenv("DOCKER_HOST")
    assert await found() == "named"
    monkeypatch.delenv("DOCKER_CONTEXT")
    assert await found() == "current"
    config.unlink()
    assert await found() == "usual"
    monkeypatch.setattr(address, "SYSTEM_SOCKET", short_dir / "none.sock")
    assert await found() == "docker"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    with pytest.raises(DockerError, match=r"no Docker engine was found.*--sandbox process") as caught:
        await found()
    assert caught.value.failure is Failure.NO_ENGINE


@pytest.mark.parametrize("variable", ["DOCKER_CONTEXT", None])
async def test_the_default_context_is_no_context(
    start: Start, home: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    await start("usual")
    monkeypatch.setattr(address, "SYSTEM_SOCKET", short_dir / "usual.sock")
    if variable:
        monkeypatch.setenv(variable, "default")
    else:
        choose_context(home, "default")
    assert await found() == "usual"


async def test_an_engine_at_a_port_is_found(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", (await start("port", tcp=True)).url)
    assert await found() == "port"


@pytest.mark.parametrize(
    "meta", ["{", "[]", "null", "{}", '{"Endpoints":{}}', '{"Endpoints":{"docker":{}}}', None, endpoint("nonsense")]
)
async def test_a_context_that_is_missing_or_broken_is_an_error_and_no_other_engine_is_taken(
    start: Start, home: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch, meta: object
) -> None:
    await start("usual")
    monkeypatch.setattr(address, "SYSTEM_SOCKET", short_dir / "usual.sock")
    if meta is not None:
        write_context(home, "mine", meta)
    choose_context(home, "mine")
    with pytest.raises(
        DockerError, match=r"^the Docker context that is chosen cannot be used: .*Set DOCKER_HOST"
    ) as caught:
        await found()
    assert caught.value.failure is Failure.UNREACHABLE


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"currentContext": 5}'])
async def test_a_config_that_cannot_be_read_is_an_error_in_words(home: Path, text: str) -> None:
    choose_context(home, "x").write_text(text)
    with pytest.raises(DockerError, match="context that is chosen cannot be used") as caught:
        await found()
    assert caught.value.failure is Failure.UNREACHABLE


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "/var/run/docker.sock", "x" * 10_000])
async def test_an_address_that_is_none_is_named_with_what_one_looks_like(
    home: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", url)
    text = rf"^DOCKER_HOST='{url[:200]}.* cannot be used: .*Set DOCKER_HOST, such as unix:///var/run/docker\.sock\.$"
    with pytest.raises(DockerError, match=text) as caught:
        await found()
    assert caught.value.failure is Failure.UNREACHABLE
    assert len(str(caught.value)) < 1000


async def test_the_error_of_an_ssh_address_shows_how_to_forward_the_socket(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "ssh://me@build")
    with pytest.raises(DockerError, match=r"^DOCKER_HOST='ssh://me@build' cannot be used: .*ssh -nNT -L") as caught:
        await found()
    assert caught.value.failure is Failure.UNREACHABLE


@pytest.mark.parametrize("name", ["DOCKER_HOST", "DOCKER_CONTEXT"])
async def test_an_empty_variable_is_as_none(
    start: Start, short_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    await start("usual")
    monkeypatch.setattr(address, "SYSTEM_SOCKET", short_dir / "usual.sock")
    monkeypatch.setenv(name, "")
    assert await found() == "usual"


async def test_an_engine_that_wants_certificates_is_shown_those_of_the_variables(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await start("tls", tcp=True, ssl_context=certificates(tmp_path / "certs"))
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    with pytest.raises(DockerError, match="DOCKER_CERT_PATH is not set") as caught:
        await found()
    assert caught.value.failure is Failure.UNREACHABLE
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "none"))
    with pytest.raises(DockerError, match=r"cannot be used: .*No such file"):
        await found()
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "certs"))
    assert await found() == "tls"
    for other in ("true", "yes", "0"):
        monkeypatch.setenv("DOCKER_TLS_VERIFY", other)
        with pytest.raises(DockerError, match="DOCKER_TLS_VERIFY must be 1 or unset"):
            await found()


async def test_a_contexts_certificates_are_those_of_each_trial_too(start: Start, home: Path, tmp_path: Path) -> None:
    engine = await start("tls", tcp=True, ssl_context=certificates(tmp_path / "certs"))
    write_context(home, "mine", endpoint(engine.url), tmp_path / "certs")
    choose_context(home, "mine")
    assert await found() == "tls"


async def test_an_engine_with_an_untrusted_certificate_is_sent_no_request(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await start("tls", tcp=True, ssl_context=certificates(tmp_path / "theirs"))
    certificates(tmp_path / "ours")
    monkeypatch.setenv("DOCKER_HOST", engine.url)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "ours"))
    with pytest.raises(DockerError, match=r"^looking for Docker: .*certificate") as caught:
        await found()
    assert caught.value.failure is Failure.UNREACHABLE
    assert engine.calls == []


async def test_certificates_for_an_engine_without_any_are_no_matter_of_permission(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates(tmp_path / "certs")
    monkeypatch.setenv("DOCKER_HOST", (await start("plain", tcp=True)).url)
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path / "certs"))
    with pytest.raises(DockerError, match=r"^looking for Docker: .*(?i:ssl)") as caught:
        await found()
    assert caught.value.failure is Failure.UNREACHABLE


@each(
    "newest, oldest, spoken",
    [
        ("1.41", "1.12", "v1.41"),
        ("1.43", "1.12", "v1.41"),
        ("1.41", "1.41", "v1.41"),
        ("1.52", "1.44", "v1.44"),
        ("1.100", "1.50", "v1.50"),
        ("2.0", "2.0", "v2.0"),
    ],
)
def test_the_api_is_the_one_that_was_tried_or_the_oldest_of_a_newer_engine(
    newest: str, oldest: str, spoken: str
) -> None:
    assert API_TESTED == (1, 41)
    assert negotiate("unix:///x", Version("x", newest, "linux", "amd64", oldest)) == spoken


@each("newest", ["1.40", "1.9", "0.99", "", "x.y", "1", "1.-1"])
def test_an_engine_that_is_older_is_refused_in_words(newest: str) -> None:
    text = r"^Docker 19\.03\.15 at unix:///x is too old: version 20\.10 or newer is needed\.$"
    with pytest.raises(DockerError, match=text) as caught:
        negotiate("unix:///x", Version("19.03.15", newest, "linux", "amd64"))
    assert caught.value.failure is Failure.NOT_DOCKER


@each("name", ["Podman Engine", "podman"])
def test_podman_is_refused_in_words(name: str) -> None:
    told = Version("4.3.1", "1.41", "linux", "amd64", components=({"Name": name, "Version": "4.3.1"},))
    with pytest.raises(
        DockerError, match=r"^unix:///x leads to Podman 4\.3\.1, which is not supported: use Docker\.$"
    ) as caught:
        negotiate("unix:///x", told)
    assert caught.value.failure is Failure.NOT_DOCKER


@pytest.mark.parametrize(("newest", "oldest"), [("1.52", "1.44"), ("1.41", "1.12")])
async def test_every_call_speaks_the_version_that_was_agreed_on(start: Start, newest: str, oldest: str) -> None:
    engine = await start("some")
    engine.state.version |= {"ApiVersion": newest, "MinAPIVersion": oldest}
    async with Engine.open(engine.url) as client:
        engine.calls.clear()
        for one in (client, client.apart()):
            assert await one.look("none") is None
            assert (await one.info())["ID"] == "some"
        assert "GET /version" not in engine.calls  # nothing is agreed on anew
        assert client.version == msgspec.convert(engine.state.version, Version)


async def test_an_engine_that_is_refused_is_asked_for_nothing_more(start: Start) -> None:
    engine = await start("old")
    engine.state.version |= {"Version": "19.03.15", "ApiVersion": "1.40"}
    with pytest.raises(DockerError, match="too old"):
        await found(engine.url)
    told = {"Version": "4.3.1", "ApiVersion": "1.41", "MinAPIVersion": "1.24", "Os": "linux", "Arch": "amd64"}
    podman = json.dumps(told | {"Components": [{"Name": "Podman Engine"}]})
    engine.script("GET /version", Text(200, podman))
    with pytest.raises(DockerError, match=r"Podman 4\.3\.1"):
        await found(engine.url)
    assert set(engine.calls) == {"GET /version"}
