"""Whether a sealed container reaches a model through the proxy, with the environment of a trial."""

import secrets
import shutil
from typing import Any

from agent_preflight.base import config
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.report import CheckLine, failed, passed, warned
from agent_preflight.checks.smoke import MODEL
from agent_preflight.docker.images import ensure_image
from agent_preflight.engine.client import on_engine
from agent_preflight.models import RunResult
from agent_preflight.runs.folder import tries_dir
from preflight_proxy.core.errors import OperatingError

NAME = "Proxy path"
ALIAS = "proxy-path"
BUDGET_USD = 0.02
"""The call costs about a millionth of this, but its worst case must fit."""
PROXY_PATH_S_MAX = 60.0
"""From the container's start; a call takes seconds."""

PROBE = """
import json, os, socket, urllib.error, urllib.request

body = {"model": os.environ["PREFLIGHT_MODEL"], "max_tokens": 1, "messages": [{"role": "user", "content": "Say OK"}]}
headers = {"Authorization": "Bearer " + os.environ["OPENROUTER_API_KEY"], "Content-Type": "application/json"}
url = os.environ["OPENROUTER_BASE_URL"] + "/chat/completions"
try:
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=45) as answer:
        status, reason = answer.status, ""
        json.load(answer)["choices"]
except urllib.error.HTTPError as error:
    status, reason = error.code, error.read(500).decode(errors="replace")
except Exception as error:
    status, reason = 0, repr(error)
budget = os.path.exists(os.environ["PREFLIGHT_BUDGET_FILE"])
try:
    socket.create_connection(("1.1.1.1", 443), 2).close()
    sealed = False
except OSError:
    sealed = True
event = {"status": status, "reason": reason, "budget": budget, "sealed": sealed}
print(json.dumps({"type": "message_end", "role": "assistant", **event}), flush=True)
"""
"""Runs on the gate's image, which always has Python."""


def check_proxy_path(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Run one trial whose agent makes one call for one token, tries another way out, and looks for its budget file."""
    events: list[dict[str, Any]] = []
    try:
        base = config.Environment.read().gate_base
        image = on_engine(lambda engine: ensure_image(engine, "gate", base))
        result = _trial(inputs, image, f"{ALIAS}-{secrets.token_hex(4)}", events)
    except OperatingError as exc:
        return [failed(NAME, str(exc))]
    return [verdict(result, next((event for event in events if "sealed" in event), None))]


def verdict(result: RunResult, probe: dict[str, Any] | None) -> CheckLine:
    """Return the finding from the trial's result and the probe's event; None if it printed none."""
    if probe is None:
        return failed(NAME, result.error or "the probe printed nothing")
    if probe.get("status") != 200:
        return failed(NAME, f"answered with {probe.get('status')}: {str(probe.get('reason'))[:200]}")
    if not probe.get("budget"):
        return failed(NAME, "the container has no budget.txt")
    if not probe.get("sealed"):
        return failed(NAME, "the sealed container has another way out")
    if unclean := [step for step, how in result.preflight.get("cleanup", {}).items() if how != "ok"]:
        return warned(NAME, f"works, but the clean-up is not confirmed: {', '.join(unclean)}")
    cost = result.preflight.get("posted_usd")
    return passed(NAME, f"one call from a sealed container, ${cost} by the ledger; no other way out")


def _trial(inputs: Inputs, image: str, alias: str, events: list[dict[str, Any]]) -> RunResult:
    """Run it in a folder that every sweep reads. The folder is removed unless the clean-up of the trial is not confirmed."""
    assert inputs.run_trial is not None, "the caller of the checks passes it"
    result = inputs.run_trial(
        image_name=image,
        model_id=MODEL,
        alias=alias,
        admin_key=inputs.admin_key,
        budget_usd=BUDGET_USD,
        run_dir=tries_dir(),
        run_id=alias,
        container_args=["-c", PROBE],
        docker_args=["--entrypoint", "python3"],
        network="sealed",
        timeout_s=PROXY_PATH_S_MAX,
        on_event=events.append,
        log_fn=lambda *_args: None,
        openrouter_base_url=inputs.base_url,
    )
    if set(result.preflight.get("cleanup", {}).values()) <= {"ok"}:
        shutil.rmtree(tries_dir() / alias, ignore_errors=True)
    return result
