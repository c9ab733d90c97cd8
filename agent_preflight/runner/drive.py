"""Runs a trial: makes the sub-key, opens the account, creates the sandbox, starts the agent, and waits for the trial's end.

Nothing is undone here: `clean_up` does that, from the state that the trial had reached.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent_preflight.base.usd import dollars
from agent_preflight.docker.gates import forget_gate_modes
from agent_preflight.docker.mounts import beside_mounts
from agent_preflight.environment.authority import write_bundle
from agent_preflight.environment.network_access import network_env, proxy_warnings
from agent_preflight.environment.variables import (
    BUNDLE_NAME,
    CONTAINER_BUDGET_FILE,
    GATE_BASE_URL,
    TLS_PORT,
    agent_env,
    trust_warnings,
)
from agent_preflight.models import RunResult
from agent_preflight.options.container_options import DockerArgs
from agent_preflight.options.settings import RunSettings
from agent_preflight.provision import create_sub_key
from agent_preflight.runner.cleanup import TRIAL_LAST_OUTPUT_S, clean_up
from agent_preflight.runner.loop import run_until
from agent_preflight.runner.progress import now_s
from agent_preflight.runner.running_trial import RunningTrial
from agent_preflight.runs.folder import shortage
from agent_preflight.runs.plan import key_expiry, network_access, output_policy
from agent_preflight.runs.trial_state import INTERRUPTED, TIME_LIMIT, Ender, EndReason, TrialState
from agent_preflight.sandboxes.interface import AgentInput, AgentSpec, ForwarderTarget, Pipes, Sandbox
from preflight_proxy.base.control_messages import AccountSpec, GateSpec, TlsSpec
from preflight_proxy.core.errors import OperatingError
from preflight_proxy.core.secret import Secret

GATE_S_MAX = 30.0
"""From the creation of a container to its gate's hand-over: C14 (starting many)."""
TRIAL_TICK_S = 1.0


async def run_trial(trial: RunningTrial) -> RunResult:
    """Run one trial to its end and return its result. Its summary.json is written, whatever happens."""
    interrupted = trial.tasks.spawn(_until_interrupted(trial), "interrupt")
    try:
        await _provision(trial)
        await run_until(trial.tasks.spawn(_set_up(trial), "set-up", awaited=True), trial.ended)
        await trial.ended.wait()
    except Exception as exc:
        provisioning = trial.state is TrialState.PLANNED and isinstance(exc, OperatingError)
        trial.end(EndReason.broken(exc, Ender.PROVISIONING if provisioning else Ender.ERROR))
    interrupted.cancel()
    return await clean_up(trial)


async def _until_interrupted(trial: RunningTrial) -> None:
    await trial.run.stop.ending.wait()
    trial.end(INTERRUPTED)


async def _provision(trial: RunningTrial) -> None:
    """Make the sub-key. This is never cancelled: else a key could be left over."""
    plan, run = trial.plan, trial.run
    expires_at = key_expiry(datetime.now(UTC))
    trial.sub_key = await asyncio.to_thread(
        create_sub_key, run.request.admin_key, plan.key_name, plan.key_limit_usd, expires_at, run.base_url
    )
    trial.move(TrialState.PROVISIONED)


async def _set_up(trial: RunningTrial) -> None:
    """Open the account, create the sandbox, start the agent and the tasks that watch it."""
    token = Secret("pf-" + secrets.token_urlsafe(32))
    gate = _gate(trial)
    trial.move(TrialState.OPENED)  # from here on an account and a sandbox may exist, even if an answer is lost
    sandbox = trial.sandbox = trial.run.setup.make_sandbox(_spec(trial, token, gate))
    created_s = now_s()
    await _both(_open_account(trial, token, gate), sandbox.create())
    trial.move(TrialState.CREATED)
    if gate is not None:
        await _gate_ready(trial, created_s + GATE_S_MAX)
    pipes = await sandbox.start()
    trial.started()
    trial.move(TrialState.RUNNING)
    _attend(trial, sandbox, pipes)


async def _both(*work: Coroutine[Any, Any, None]) -> None:
    """Await several coroutines at once. If one fails, the others are cancelled and the first failure is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as exc:
        raise exc.exceptions[0] from exc


def _gate(trial: RunningTrial) -> GateSpec | None:
    if trial.run.settings.sandbox == "process":
        return None
    authority = trial.run.authority
    assert authority is not None
    write_bundle(trial.folder / "budget" / BUNDLE_NAME, authority)
    settings, reach = trial.run.settings, network_access(trial.run.settings)
    for text in (
        *trust_warnings(settings.env or {}),
        *proxy_warnings(reach, settings.env or {}, settings.agents_network),
    ):
        trial.warnings.append(text)
        trial.warn(text)
    tls = TlsSpec(TLS_PORT, authority.certificate, authority.key)
    is_portable = trial.run.setup.gate.host is not None
    socket = None if is_portable else str(trial.run.folder.gate_socket(trial.number))
    portal_pass = Secret(secrets.token_urlsafe(32)) if is_portable else None
    return GateSpec(socket, reach.ports, tls, reach.openings, reach.way_out, portal_pass)


async def _open_account(trial: RunningTrial, token: Secret, gate: GateSpec | None) -> None:
    assert trial.sub_key is not None
    spec = AccountSpec(
        run=trial.run.run_id,
        limit_pusd=trial.plan.limit_pusd,
        token=token,
        key=trial.sub_key.key,
        key_is_own=True,
        budget_file=str(trial.folder / "budget" / "budget.txt"),
        budget_mode="detailed" if trial.run.settings.budget_mode == "detailed" else "simple",
        gate=gate,
    )
    balance = await trial.run.sidecar.open(trial.alias, spec)
    if trial.plan.prior is not None:  # it was frozen at the end of the earlier attempt, whose token and key are invalid
        balance = await trial.run.sidecar.unfreeze(trial.alias)
    trial.take_balance(balance)


def _spec(trial: RunningTrial, token: Secret, gate: GateSpec | None) -> AgentSpec:
    plan, run, inside = trial.plan, trial.run, gate is not None
    settings = replace(run.settings, mounts=plan.mounts)
    user, access, budget_dir = settings.env or {}, network_access(settings), trial.folder / "budget"
    env = agent_env(
        user,
        token=token.reveal(),
        base_url=GATE_BASE_URL if inside else str(run.sidecar.base_url),
        budget_file=CONTAINER_BUDGET_FILE if inside else str(budget_dir / "budget.txt"),
        model_id=plan.model_id,
        own_authority=inside,
    )
    env |= network_env(access, user, in_container=inside, network=settings.agents_network, image=run.setup.image_env)
    portal = None
    if gate is not None and gate.portal_pass is not None:
        portal = ForwarderTarget(
            str(run.setup.gate.host), int(str(run.sidecar.portal).rpartition(":")[2]), gate.portal_pass
        )
    docker_args = settings.engine_options if inside else DockerArgs()
    return AgentSpec(
        run_id=run.run_id,
        alias=plan.alias,
        run_dir=run.folder.path,
        image=settings.image_name,
        command=plan.command,
        env=env,
        network=settings.agents_network,
        workspace_path=settings.workspace_path,
        budget_dir=budget_dir,
        gate_socket=Path(gate.socket) if gate is not None and gate.socket is not None else None,
        docker_args=docker_args,
        output=beside_mounts(output_policy(settings), docker_args.agent),
        services=access.names,
        portal=portal,
    )


async def _gate_ready(trial: RunningTrial, until_s: float) -> None:
    """Wait for the gate's hand-over. A gate that is lost ends the trial, and with it this wait.

    Raises:
        OperatingError: It did not come in time, or it was refused.
    """
    while (state := trial.balance.gate) != "ready":
        if state == "refused":
            raise OperatingError("the gate's hand-over was refused; proxy.log says why")
        trial.ledger_event.clear()
        try:
            await asyncio.wait_for(trial.ledger_event.wait(), max(until_s - now_s(), 0.0))
        except TimeoutError:
            forget_gate_modes()
            raise OperatingError(not_handed_over(trial.run.setup.gate.host, trial.run.sidecar.portal)) from None


def not_handed_over(portal_host: str | None, portal: str | None) -> str:
    """Say why a gate may not have handed over its listeners, for a person.

    Args:
        portal_host: Where forwarders of portable gates find the proxy; None for shared gates.
        portal: The portal's address and port.
    """
    if portal_host is not None:
        return (
            f"the gate's forwarder did not reach the proxy within {GATE_S_MAX:.0f} s at {portal_host}, "
            f"TCP port {(portal or '').rpartition(':')[2]}: a firewall may be in the way; nothing was spent"
        )
    return (
        f"the gate did not hand over its listeners within {GATE_S_MAX:.0f} s: this engine may not share a unix "
        "socket with the host (Docker Desktop does not), which gate='auto' or 'portable' takes into account; "
        "nothing was spent"
    )


def _attend(trial: RunningTrial, sandbox: Sandbox, pipes: Pipes) -> None:
    """Start the tasks that run beside the agent."""
    stderr = trial.output.read_stderr(pipes.stderr, trial.folder / "stderr.log")
    trial.readers = [
        trial.tasks.spawn(_guard(trial, trial.output.read_stdout(pipes.stdout)), "stdout"),
        trial.tasks.spawn(_guard(trial, stderr), "stderr"),
    ]
    trial.watching = trial.tasks.spawn(_guard(trial, _until_judged(trial)), "watch")
    trial.exiting = [trial.tasks.spawn(_guard(trial, _until_exit(trial, sandbox)), "exit")]
    trial.tasks.spawn(_guard(trial, _tick(trial)), "tick")
    _begin_input(pipes.stdin, trial.run.settings)
    spent = "" if trial.plan.prior is None else f", {dollars(trial.plan.spent_before_pusd)} of it spent before"
    trial.say(f"started with a budget of {dollars(trial.plan.limit_pusd)}{spent}")


async def _guard(trial: RunningTrial, work: Coroutine[Any, Any, None]) -> None:
    """Await one of the trial's tasks. An exception ends the trial."""
    try:
        await work
    except Exception as exc:
        trial.end(EndReason.broken(exc))


async def _until_exit(trial: RunningTrial, sandbox: Sandbox) -> None:
    trial.exit = await sandbox.wait()
    await asyncio.wait(trial.readers, timeout=TRIAL_LAST_OUTPUT_S)
    end = trial.output.end
    trial.end(EndReason(Ender.AGENT_END if end.is_done else Ender.AGENT, end.error))


async def _until_judged(trial: RunningTrial) -> None:
    ending = await trial.watch.run(f"trial {trial.alias}")
    if ending is None:
        return
    if ending.by is Ender.CALLBACK and trial.ending is not None and trial.ending.by in (Ender.AGENT, Ender.AGENT_END):
        trial.ending = ending  # the user's function raised at a last event: that is the result
    trial.end(ending)


async def _tick(trial: RunningTrial) -> None:
    limit_s = trial.run.settings.timeout_s
    while True:
        if trial.balance.calls_in_flight:  # the end of a call makes no ledger event
            with contextlib.suppress(OperatingError):
                trial.take_balance(await trial.run.sidecar.balance(trial.alias))
        trial.tick()
        if trial.ending is None and (reason := shortage(trial.folder, trial.run.request.free_bytes_min)) is not None:
            trial.output.caps_hit["free_space"] += 1
            trial.end(EndReason(Ender.ERROR, reason))
        left_s = TRIAL_TICK_S if limit_s is None else limit_s - trial.elapsed_s
        if left_s <= 0:
            trial.end(TIME_LIMIT)
        await asyncio.sleep(min(TRIAL_TICK_S, left_s) if left_s > 0 else TRIAL_TICK_S)


def _begin_input(stdin: AgentInput, settings: RunSettings) -> None:
    """Write the prompt, if any, as one line, and close stdin if it is to end. This does not wait until the agent reads it."""
    with contextlib.suppress(ConnectionError):
        if settings.initial_prompt is not None:
            line = json.dumps({"id": "init", "type": "prompt", "message": settings.initial_prompt})
            stdin.write(line.encode() + b"\n")
        if settings.closes_stdin:
            stdin.close()
