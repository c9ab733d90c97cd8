"""Scores a trial after its end: its container is gone, its account frozen, its key deleted."""

from __future__ import annotations

import asyncio
import copy
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from msgspec import structs

from agent_preflight.base.config import child_environment
from agent_preflight.docker.labels import TrialLabels
from agent_preflight.docker.mounts import OWN_MOUNT, mount_of_output
from agent_preflight.models import RunResult
from agent_preflight.runner.loop import in_thread
from agent_preflight.runner.progress import now_s
from agent_preflight.runner.resume import begins_again
from agent_preflight.runner.running_trial import RunningTrial
from agent_preflight.runs.plan import output_policy
from agent_preflight.runs.record import Score
from agent_preflight.runs.trial_state import EndReason
from agent_preflight.sandboxes.interface import Step
from agent_preflight.sandboxes.kept_output import KeptOutput
from agent_preflight.sandboxes.process import SessionProcess, agent_environment
from agent_preflight.scoring.command import SCORE_LOG, SHELL, ScoreError, ScorePlace, score_by_command, within
from agent_preflight.scoring.container import ScoreContainer, score_config
from agent_preflight.scoring.reading import score_of, unscored

NOT_YET = "it is not scored yet, or the runner was lost before it was"
NEVER_RAN = "the agent never ran"
LATER = "the trial begins again in a resume, and is scored then"


async def score_trial(trial: RunningTrial, result: RunResult, kept: KeptOutput) -> tuple[Score, dict[str, Step]]:
    """Score a trial. Raises nothing: what goes wrong is the reason for which there is no score.

    Args:
        trial: The trial, at its end.
        result: Its result.
        kept: What was kept of the agent's output.

    Returns:
        The score, and whether the command and its container are seen to be gone; empty if nothing was started.
    """
    began_s = now_s()
    steps: dict[str, Step] = {}
    try:
        if trial.progress.started_s is None:
            score = unscored(NEVER_RAN)
        elif begins_again(result):
            score = unscored(LATER)
        else:
            score, steps = await _scored(trial, result, kept)
    except Exception as exc:
        score = unscored(EndReason.broken(exc).text)
    return structs.replace(score, duration_s=round(now_s() - began_s, 3)), steps


async def _scored(trial: RunningTrial, result: RunResult, kept: KeptOutput) -> tuple[Score, dict[str, Step]]:
    settings, hurry, score = trial.run.settings, trial.run.stop.hurry, trial.run.settings.score
    folder = scored_folder(trial, kept)
    if callable(score):
        copied = copy.deepcopy(result)
        call = in_thread(lambda: score_of(score(copied, folder), settings.score_pass), f"score {trial.alias}")
        return await within(call, settings.score_timeout_s, hurry), {}
    # In the run's own directory, which a sweep removes after a crash.
    own = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="score-", dir=trial.run.folder.short_dir))
    try:
        for name in ("work", "empty"):
            (own / name).mkdir()
        place = _place(trial, folder or own / "empty", own / "work")
        log, timeout_s = trial.folder / SCORE_LOG, settings.score_timeout_s
        found, gone = await score_by_command(place, log, timeout_s, settings.score_pass, hurry)
        return found, {"score": gone}
    finally:
        await asyncio.to_thread(shutil.rmtree, own, ignore_errors=True)


def scored_folder(trial: RunningTrial, kept: KeptOutput) -> Path | None:
    """Return the folder of what an agent wrote; None if it wrote nothing.

    Raises:
        ScoreError: It was not kept, or the agent has put a link in its place.
    """
    if kept.path is not None:
        above, path = trial.folder, Path(kept.path).name
    elif kept.is_nothing:
        return None
    elif kept.why == OWN_MOUNT:
        settings = replace(trial.run.settings, mounts=trial.plan.mounts)
        mount = mount_of_output(output_policy(settings), settings.engine_options.agent)
        assert mount is not None, kept.why
        above, path = Path(mount[1]), mount[2]
    else:
        raise ScoreError(f"the output was not kept: {kept.why}")
    folder = above.resolve() / path
    if folder.resolve() != folder:
        raise ScoreError("the agent put a link in the place of its output folder")
    return folder if folder.is_dir() else None


def _place(trial: RunningTrial, folder: Path, work: Path) -> ScorePlace:
    """Return where the command runs; as a process in the folder `work`, without anything of our environment that could be a key.

    The name of the budget file marks its processes, so that all of them are found, also after a crash.
    """
    run, settings = trial.run, trial.run.settings
    names = {
        "PREFLIGHT_OUTPUT": str(folder),
        "PREFLIGHT_ALIAS": trial.alias,
        "PREFLIGHT_MODEL": trial.plan.model_id,
        "PREFLIGHT_RUN_ID": run.run_id,
    }
    if not settings.score_image:
        budget_file = trial.folder / "budget" / "budget.txt"
        env = agent_environment({**names, "PREFLIGHT_BUDGET_FILE": str(budget_file)}, child_environment())
        return SessionProcess("the score's command", (*SHELL, settings.score), work, env, budget_file)
    assert run.setup.engine is not None, "arguments"
    labels = TrialLabels(run.run_id, run.folder.path, trial.alias)
    body = score_config(settings.score_image, settings.score, names, folder, labels, settings.engine_options)
    return ScoreContainer(run.setup.engine, labels, body)
