"""Copies what the agents of dead runs wrote, before a sweep removes their containers, and completes their trials' summaries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agent_preflight.artifacts import read_json_object
from agent_preflight.docker.agent_files import keep
from agent_preflight.docker.sweep import EngineLeftover
from agent_preflight.engine.client import Engine
from agent_preflight.engine.failure import DockerError
from agent_preflight.runs.folder import write_private
from agent_preflight.runs.plan_file import trial_folder
from agent_preflight.sandboxes.kept_output import RECORD, KeptOutput, OutputPolicy

KEPT_LATE = "its output was copied by a sweep, after its end"
_PARTS = ("gate", "forwarder", "volume")


class Outputs:
    """Keeps outputs, see `Keeper`.

    Attributes:
        notes: What was copied.
        trouble: What could not be.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.trouble: list[str] = []

    async def keep(self, engine: Engine, agent: EngineLeftover) -> bool:
        """Copy the output of a stopped container into its trial's folder; False if its container must stay.

        Where the engine cannot read it a second time, what can be read is kept and the container goes: else whoever makes a
        folder that no engine reads would have a container that nobody removes.
        """
        wish, folder = OutputPolicy.read(agent.output), _folder(agent)
        if wish is None or folder is None or kept_of(folder, agent.id) is not None:
            return True
        try:
            kept = await keep(engine, agent.id, wish, folder, last_try=True)
        except (OSError, DockerError) as exc:
            reason = (exc.strerror or str(exc)) if isinstance(exc, OSError) else str(exc)
            self.trouble.append(
                f"the output of {folder} could not be copied: {reason}; its stopped container stays until a sweep can copy it"
            )
            return False
        if kept.path is not None:
            self.notes.append(f"output of {folder} copied: {kept.files} files in {kept.path}")
        if (warning := kept.warning(wish)) is not None:
            self.notes.append(warning)
        return True

    def gone(self, agent: EngineLeftover) -> None:
        """Complete the summary of a trial whose container had to wait for a sweep."""
        folder = _folder(agent)
        kept = None if folder is None else kept_of(folder, agent.id)
        summary = None if folder is None else read_json_object(folder, "summary.json")
        if folder is None or kept is None or summary is None or (late := _with_output(summary, kept)) is None:
            return
        try:
            write_private(folder / "summary.json", late)
        except OSError as exc:
            self.notes.append(f"the summary of {folder} could not be written: {exc}")


def kept_of(folder: Path, container: str | None = None) -> KeptOutput | None:
    """Return what was kept of a trial's last container; None if nothing was tried, or of another container than this."""
    record = read_json_object(folder, RECORD) or {}
    if container is not None and record.get("container") != container:
        return None
    return KeptOutput.read(record.get("output"))


def _folder(agent: EngineLeftover) -> Path | None:
    """The trial's folder, if there is one; its name is not taken on trust."""
    if Path(agent.alias).name != agent.alias or agent.alias in ("", ".."):
        return None
    folder = trial_folder(agent.run_dir, agent.alias)
    return folder if folder.is_dir() and not folder.is_symlink() else None


def _with_output(summary: dict[str, Any], kept: KeptOutput) -> dict[str, Any] | None:
    """Return a summary with what was copied after it was written; None if it needs nothing."""
    extra = summary.get("preflight")
    cleanup = extra.get("cleanup") if isinstance(extra, dict) else None
    if not isinstance(extra, dict) or not isinstance(cleanup, dict) or cleanup.get("output", "ok") == "ok":
        return None
    steps = {**cleanup, "output": "ok", "agent": "ok"}
    if all(steps.get(part, "ok") == "ok" for part in _PARTS):
        steps["sandbox"] = "ok"
    warnings = extra.get("warnings")
    told = [*(warnings if isinstance(warnings, list) else []), KEPT_LATE]
    return {**summary, "preflight": {**extra, "output": kept.document(), "warnings": told, "cleanup": steps}}
