"""Checks of what a run needs besides OpenRouter: services, variables, containers, repositories.

Give them to `preflight` as `infra`. Each takes at most a few seconds and spends nothing.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent_preflight.base import commands, config
from agent_preflight.models import InfraResult

__all__ = ["InfraCheck", "InfraResult", "docker_health", "env_vars", "git_version", "http_health"]

COMMAND_TIMEOUT_S = 5.0

HEALTH_BODY_BYTES_MAX = 2**20
"""How much of a page is read, in bytes. Health pages are small."""

DETAIL_CHARS = 200

_MISSING = object()
_RELEASE = re.compile(r"[0-9]+(?:\.[0-9]+)*")


class InfraCheck(ABC):
    """A check of infrastructure, run before anything is spent. A subclass gives `name` and `check`."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in the report."""

    @abstractmethod
    def check(self) -> InfraResult:
        """Do the check.

        An exception is a failed check, with its text as the detail.

        Returns:
            The result: pass, failure or warning.
        """


class _Check(InfraCheck):
    """A check that consists of a name and a function. Its hint is added to a failure or a warning."""

    def __init__(self, name: str, hint: str, look: Callable[[], InfraResult]) -> None:
        self._name = name
        self._hint = hint
        self._look = look

    @property
    def name(self) -> str:
        return self._name

    def check(self) -> InfraResult:
        result = self._look()
        return result if result.ok else replace(result, hint=self._hint)


def http_health(
    url: str,
    *,
    name: str | None = None,
    require: dict[str, Any] | None = None,
    min_version: str | None = None,
    timeout: float = 5.0,
    hint: str = "",
) -> InfraCheck:
    """Check a service by fetching one of its pages. Fails unless the status is below 400 and the body is JSON.

    Args:
        url: Fetched with GET, without a key.
        name: The name in the report; the URL's host and port by default.
        require: Expected values in the body, by dotted path such as `"db.status"`. A missing or different value fails.
        min_version: The lowest `version` in the body; a lower one is a warning. A body without one passes.
        timeout: Seconds for each step of the request.
        hint: What to do if it does not pass.

    Returns:
        The check.
    """
    return _Check(name or urlsplit(url).netloc or url, hint, lambda: _http(url, require, min_version, timeout))


def env_vars(*names: str, name: str = "Env vars", hint: str = "") -> InfraCheck:
    """Check that environment variables are set. An empty value counts as set; no value is shown.

    Args:
        *names: The variables.
        name: The name in the report.
        hint: What to do if it does not pass.

    Returns:
        The check.
    """
    return _Check(name, hint, lambda: _env(names))


def docker_health(container: str, *, name: str | None = None, hint: str = "") -> InfraCheck:
    """Check that a container is running. Fails if it is not, if it does not exist, or if Docker does not answer within 5 s.

    Args:
        container: The container's name or id.
        name: The name in the report; `Docker {container}` by default.
        hint: What to do if it does not pass.

    Returns:
        The check.
    """
    return _Check(name or f"Docker {container}", hint, lambda: _docker(container))


def git_version(repo_path: str, *, min_tag: str | None = None, name: str | None = None, hint: str = "") -> InfraCheck:
    """Check that a folder is in a git repository and, with `min_tag`, that its latest tag is not lower.

    Fails if the folder is in none, if there is no `git`, or if git takes longer than 5 s. A lower tag, and no tag at all, are
    warnings. Versions are compared number by number; `v`, and what follows the first `-`, is ignored.

    Args:
        repo_path: The folder.
        min_tag: The lowest tag, such as `"v1.2"`; None compares none.
        name: The name in the report; `Git {folder name}` by default.
        hint: What to do if it does not pass.

    Returns:
        The check.
    """
    return _Check(name or f"Git {Path(repo_path).name}", hint, lambda: _git(str(repo_path), min_tag))


def _http(url: str, require: Mapping[str, Any] | None, min_version: str | None, timeout_s: float) -> InfraResult:
    import httpx  # slow to load, and only this check needs it

    from agent_preflight.openrouter.http import opened

    try:
        with opened("GET", url, timeout_s=timeout_s) as response:
            content = next(response.iter_bytes(HEALTH_BODY_BYTES_MAX), b"")  # the rest of a larger page is not read
    except httpx.TimeoutException:
        return InfraResult(ok=False, detail=f"timed out after {timeout_s}s")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, config.ConfigError) as exc:
        return InfraResult(ok=False, detail=str(exc)[:DETAIL_CHARS] or type(exc).__name__)
    if response.status_code >= 400:
        return InfraResult(ok=False, detail=f"HTTP {response.status_code}")
    return _judge_body(response.status_code, _json(content), require, min_version)


def _judge_body(status: int, body: object, require: Mapping[str, Any] | None, min_version: str | None) -> InfraResult:
    if body is _MISSING:
        return InfraResult(ok=False, detail="response is not valid JSON")
    for path, wanted in (require or {}).items():
        got = _at(body, path)
        if got is _MISSING:
            return InfraResult(ok=False, detail=f"missing field: {path}")
        if got != wanted:
            return InfraResult(ok=False, detail=f"{path}={got!r}, expected {wanted!r}")
    version = body.get("version") if isinstance(body, dict) else None
    if version is None:
        return InfraResult(ok=True, detail=f"HTTP {status}")
    if min_version is not None and _is_older(str(version), min_version):
        return InfraResult(ok=None, detail=f"version {version} < min {min_version}")
    return InfraResult(ok=True, detail=f"version={version}")


def _env(names: tuple[str, ...]) -> InfraResult:
    missing = [variable for variable in names if config.variable(variable) is None]
    if missing:
        return InfraResult(ok=False, detail=f"missing: {', '.join(missing)}")
    return InfraResult(ok=True, detail=f"{len(names)} vars present")


def _docker(container: str) -> InfraResult:
    from agent_preflight.engine.client import on_engine  # brings the HTTP library, which only this check needs
    from agent_preflight.engine.failure import DockerError

    try:
        state = on_engine(lambda engine: engine.look(container, COMMAND_TIMEOUT_S))
    except DockerError as exc:
        return InfraResult(ok=False, detail=str(exc))
    if state is None:
        return InfraResult(ok=False, detail=f"container '{container}' not found")
    running = state.status == "running"
    return InfraResult(ok=running, detail="running" if running else f"status: {state.status}")


def _git(repo_path: str, min_tag: str | None) -> InfraResult:
    def git(*args: str) -> tuple[int, str]:
        return commands.run(["git", "-C", repo_path, *args], timeout_s=COMMAND_TIMEOUT_S)

    try:
        if git("rev-parse", "--git-dir")[0] != 0:
            return InfraResult(ok=False, detail=f"not a git repo: {repo_path}")
        if min_tag is None:
            return InfraResult(ok=True, detail=repo_path)
        code, tag = git("describe", "--tags", "--abbrev=0")
    except commands.CommandError as exc:
        return InfraResult(ok=False, detail=str(exc))
    if code != 0:
        return InfraResult(ok=None, detail=f"no tags found; min_tag={min_tag} cannot be checked")
    if _is_older(tag, min_tag):
        return InfraResult(ok=None, detail=f"{tag} < min {min_tag}")
    return InfraResult(ok=True, detail=f"tag={tag}")


def _is_older(version: str, least: str) -> bool:
    """Compare the numbers of two versions. Missing numbers count as zero, so 1.0 equals 1.0.0."""
    from packaging.version import Version  # only these checks need it

    mine, theirs = (Version(found.group() if (found := _RELEASE.search(text)) else "0") for text in (version, least))
    return mine < theirs


def _at(body: object, path: str) -> object:
    for part in path.split("."):
        if not isinstance(body, dict) or part not in body:
            return _MISSING
        body = body[part]
    return body


def _json(content: bytes) -> object:
    try:
        value: object = json.loads(content)
    except (ValueError, RecursionError):
        return _MISSING
    return value
