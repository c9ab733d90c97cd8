"""The calls that a scripted engine understands: what each does to the state, and what it answers.

A call has its effect before its answer goes out, so that a test can have the one without the other.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.support.engine_attach import RAW_STREAM, hijack, is_true
from tests.support.engine_container import timestamp
from tests.support.engine_state import RefusedError, State, tagged

VERSIONED = re.compile(r"/v(\d+)\.(\d+)(/.*)")

Stream = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""An answer that takes its time on the connection; nothing has been sent before it is called."""
Outcome = web.Response | Stream


@dataclass(frozen=True, slots=True)
class Call:
    """One call: its path is without the version, `api` is that version or None, the body is read whole."""

    method: str
    path: str
    api: tuple[int, int] | None
    query: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the body's object."""
        try:
            read = json.loads(self.body or b"{}")
        except ValueError as exc:
            raise RefusedError(400, str(exc)) from exc
        return read if isinstance(read, dict) else {}

    def asks(self, name: str) -> bool:
        """Tell whether a boolean of the query is true."""
        return is_true(self.query.get(name))


def reply(state: State, status: int, told: object = None) -> web.Response:
    """Make an answer as the engine does: JSON and a line's end, or nothing."""
    if told is None:
        return web.Response(status=status, headers=headers(state))
    return web.Response(status=status, headers=headers(state, "application/json"), body=json.dumps(told) + "\n")


def failure(state: State, path: str, status: int, message: str) -> web.Response:
    """Make the answer to a call that failed; an attach says it in plain text and closes the connection."""
    if not path.endswith("/attach"):
        return reply(state, status, {"message": message})
    answer = web.Response(status=status, headers={"Content-Type": RAW_STREAM}, body=f"{message}\r\n")
    answer.force_close()
    return answer


def headers(state: State, content_type: str = "") -> dict[str, str]:
    """Return what the engine puts before every answer."""
    usual = {"Api-Version": state.version["ApiVersion"], "Docker-Experimental": "false", "Ostype": "linux"}
    usual |= {"Server": f"Docker/{state.version['Version']} (linux)"}
    return usual | ({"Content-Type": content_type} if content_type else {})


def carry_out(state: State, call: Call) -> Outcome:
    """Let a call have its effect.

    Raises:
        RefusedError: It has none.
    """
    _check_version(state, call)
    for method, pattern, route in ROUTES:
        if method == call.method and (found := pattern.fullmatch(call.path)):
            return route(state, call, *found.groups())
    raise RefusedError(404, "page not found")


def _check_version(state: State, call: Call) -> None:
    newest, oldest = state.version["ApiVersion"], state.version["MinAPIVersion"]
    asked = "" if call.api is None else f"{call.api[0]}.{call.api[1]}"
    if call.api is not None and call.api > _numbers(newest):
        raise RefusedError(400, f"client version {asked} is too new. Maximum supported API version is {newest}")
    if call.api is not None and call.api < _numbers(oldest):
        advice = "please upgrade your client to a newer version"
        raise RefusedError(
            400, f"client version {asked} is too old. Minimum supported API version is {oldest}, {advice}"
        )


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)


def _chosen(
    call: Call, things: Iterable[dict[str, Any]], **facts: Callable[[dict[str, Any]], Any]
) -> list[dict[str, Any]]:
    """Return the things that fit the call's filters; `facts` says what may be asked, and how a thing answers."""
    try:
        filters: dict[str, list[str]] = json.loads(call.query.get("filters") or "{}")
    except ValueError as exc:
        raise RefusedError(500, f"invalid filters: {exc}") from exc
    if unknown := filters.keys() - facts.keys():
        raise RefusedError(400, f"Invalid filter '{min(unknown)}'")
    return [thing for thing in things if all(_fits(key, filters[key], facts[key](thing)) for key in filters)]


def _fits(key: str, wanted: Iterable[str], fact: Any) -> bool:
    if key == "label":
        pairs = [one.partition("=") for one in wanted]
        return all(name in (fact or {}) and (not sign or fact[name] == value) for name, sign, value in pairs)
    if key == "status":
        return fact in wanted
    return any(re.search(f"^{one}" if key == "id" else one, fact) for one in wanted)


def _quietly(effect: Callable[[State, str], None]) -> Callable[[State, Call, str], Outcome]:
    """Make a route of what has an effect and nothing to tell."""

    def route(state: State, call: Call, name: str) -> Outcome:
        effect(state, name)
        return reply(state, 204)

    return route


def _ping(state: State, call: Call) -> Outcome:
    return web.Response(body="OK", headers=headers(state, "text/plain; charset=utf-8"))


def _create(state: State, call: Call) -> Outcome:
    return reply(state, 201, {"Id": state.create(call.query.get("name", ""), call.json()).id, "Warnings": []})


def _start(state: State, call: Call, name: str) -> Outcome:
    return reply(state, 204 if state.launch(name) else 304)


def _kill(state: State, call: Call, name: str) -> Outcome:
    state.kill(name, call.query.get("signal") or "KILL")
    return reply(state, 204)


def _wait(state: State, call: Call, name: str) -> Outcome:
    """The head goes out at once, the rest when it has ended; a container that never ran is "not-running" too."""
    container, condition = state.find(name), call.query.get("condition")
    awaited = container.removed if condition == "removed" else container.ended
    over = condition not in {"removed", "next-exit"} and not container.running

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers(state, "application/json"))
        await response.prepare(request)
        if not over:
            await awaited.wait()
        await response.write(json.dumps({"Error": None, "StatusCode": container.exit_code}).encode() + b"\n")
        await response.write_eof()
        return response

    return stream


def _attach(state: State, call: Call, name: str) -> Outcome:
    container = state.find(name)
    if container.status == "paused":
        raise RefusedError(409, f"container {name} is paused, unpause the container before attach")
    return lambda request: hijack(request, container)


def _archive(state: State, call: Call, name: str) -> Outcome:
    container, path = state.find(name), call.query.get("path", "")
    if (path.rstrip("/") or "/") not in container.directories:
        raise RefusedError(404, f"Could not find the file {path} in container {name}")
    container.archives.append((path, call.body))
    return reply(state, 200)


def _read_archive(state: State, call: Call, name: str) -> Outcome:
    """What a test put there, byte for byte."""
    container, path = state.find(name), call.query.get("path", "")
    if path not in container.contents:
        raise RefusedError(404, f"Could not find the file {path} in container {name}")
    return web.Response(body=container.contents[path], headers=headers(state, "application/x-tar"))


def _look_at_path(state: State, call: Call, name: str) -> Outcome:
    state.find(name)
    return web.Response(headers=headers(state) | {"X-Docker-Container-Path-Stat": "e30="})


def _remove(state: State, call: Call, name: str) -> Outcome:
    state.remove(name, force=call.asks("force"))
    return reply(state, 204)


def _list(state: State, call: Call) -> Outcome:
    all_told = [container.summary() for container in state.containers.values()]
    facts = {"id": lambda told: told["Id"], "name": lambda told: told["Names"][0], "label": lambda told: told["Labels"]}
    found = _chosen(call, all_told, **facts, status=lambda told: told["State"])
    everything = call.asks("all") or '"status"' in call.query.get("filters", "")
    return reply(state, 200, [told for told in found if everything or told["State"] in {"running", "paused"}])


def _networks(state: State, call: Call) -> Outcome:
    facts = {"id": lambda told: told["Id"], "name": lambda told: told["Name"], "label": lambda told: told["Labels"]}
    return reply(state, 200, _chosen(call, state.networks.values(), **facts))


def _create_network(state: State, call: Call) -> Outcome:
    return reply(state, 201, {"Id": state.create_network(call.json())["Id"], "Warning": ""})


def _volumes(state: State, call: Call) -> Outcome:
    facts = {"name": lambda told: told["Name"], "label": lambda told: told["Labels"]}
    return reply(state, 200, {"Volumes": _chosen(call, state.volumes.values(), **facts), "Warnings": None})


def _remove_volume(state: State, call: Call, name: str) -> Outcome:
    if not call.asks("force"):
        state.volume(name)
    state.volumes.pop(name, None)
    return reply(state, 204)


def _image(state: State, call: Call, name: str) -> Outcome:
    told = state.image(name)
    if told is None:
        raise RefusedError(404, f"no such image: {name}: No such image: {tagged(name)}")
    return reply(state, 200, told)


def _build(state: State, call: Call) -> Outcome:
    name, image_id = call.query.get("t", ""), f"sha256:{hashlib.sha256(call.body).hexdigest()}"
    labels = json.loads(call.query.get("labels") or "{}")
    told = {"Id": image_id, "RepoTags": [tagged(name)] if name else [], "Created": timestamp()}
    state.images[name or image_id] = told | {"Os": "linux", "Architecture": "amd64", "Config": {"Labels": labels}}
    short = image_id.removeprefix("sha256:")[:12]
    lines = [{"stream": "Step 1/1 : FROM scratch"}, {"aux": {"ID": image_id}}]
    lines += [{"stream": f"Successfully built {short}\n"}, {"stream": f"Successfully tagged {tagged(name)}\n"}]
    text = "".join(json.dumps(line) + "\r\n" for line in lines)
    return web.Response(body=text, headers=headers(state, "application/json"))


_ONE, _PATH = "([^/]+)", "(.+)"
ROUTES: list[tuple[str, re.Pattern[str], Callable[..., Outcome]]] = [
    (method, re.compile(pattern), route)
    for method, pattern, route in (
        ("GET", "/version", lambda state, call: reply(state, 200, state.version)),
        ("GET", "/info", lambda state, call: reply(state, 200, state.info)),
        ("GET", "/_ping", _ping),
        ("HEAD", "/_ping", _ping),
        ("POST", "/containers/create", _create),
        ("GET", "/containers/json", _list),
        ("GET", f"/containers/{_ONE}/json", lambda state, call, name: reply(state, 200, state.find(name).inspect())),
        ("POST", f"/containers/{_ONE}/start", _start),
        ("POST", f"/containers/{_ONE}/kill", _kill),
        ("POST", f"/containers/{_ONE}/wait", _wait),
        ("POST", f"/containers/{_ONE}/pause", _quietly(State.pause)),
        ("POST", f"/containers/{_ONE}/unpause", _quietly(State.unpause)),
        ("POST", f"/containers/{_ONE}/attach", _attach),
        ("PUT", f"/containers/{_ONE}/archive", _archive),
        ("GET", f"/containers/{_ONE}/archive", _read_archive),
        ("HEAD", f"/containers/{_ONE}/archive", _look_at_path),
        ("DELETE", f"/containers/{_ONE}", _remove),
        ("GET", "/networks", _networks),
        ("POST", "/networks/create", _create_network),
        ("GET", f"/networks/{_ONE}", lambda state, call, name: reply(state, 200, state.network(name))),
        ("DELETE", f"/networks/{_ONE}", _quietly(State.remove_network)),
        ("GET", "/volumes", _volumes),
        ("POST", "/volumes/create", lambda state, call: reply(state, 201, state.create_volume(call.json()))),
        ("GET", f"/volumes/{_ONE}", lambda state, call, name: reply(state, 200, state.volume(name))),
        ("DELETE", f"/volumes/{_ONE}", _remove_volume),
        ("GET", f"/images/{_PATH}/json", _image),
        ("POST", "/build", _build),
    )
]
