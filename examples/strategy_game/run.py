"""Two agents improve a bot for a small game; one who spends a quarter of its budget without a test is sent home.

    python examples/strategy_game/run.py                                   # offline, as processes of this machine
    python examples/strategy_game/run.py --image python:3.12-slim          # in sealed containers

Without OPENROUTER_BASE_URL it starts an offline OpenRouter; see ../offline.py. Real models write programs that are run, so with a
real OpenRouter it wants containers.
"""

import argparse
import sys
from pathlib import Path

from agent_preflight import CompositeEject, EjectDecision, EjectPolicy, RunResult, default_eject_policies, run_multi

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from offline import openrouter  # noqa: E402 - beside the examples' folders

MODELS = [("openai/gpt-4.1-mini", "tester"), ("openai/gpt-5-mini", "dreamer")]
BUDGET_USD = "0.04"


class TestsByThen(EjectPolicy):
    """Ejects a trial that has spent a share of its budget and has not run a test yet."""

    def __init__(self, share: float = 0.25) -> None:
        self.share = share

    def check(self, *, elapsed_s, budget_status, events, context) -> EjectDecision:  # noqa: ANN001 - as the base class has them
        """Judge the trial as it stands."""
        tested = any(
            event["type"] == "tool_execution_start" and event.get("toolName") == "run_test" for event in events
        )
        if tested or budget_status.pct_spent < self.share:
            return EjectDecision(should_eject=False)
        return EjectDecision(should_eject=True, reason=f"{budget_status.pct_spent:.0%} spent without a test")


def main(image: str) -> int:
    if image:
        place = {
            "image_name": image,
            "docker_args": ["--entrypoint", "python3", "--workdir", "/tmp"],
            "network": "sealed",
        }
        place |= {"mounts": [f"{HERE}:/example:ro"], "container_args": ["-u", "/example/agent.py"]}
    else:
        place = {"sandbox": "process", "command": [sys.executable, "-u", str(HERE / "agent.py")]}
    left: dict[str, str] = {}

    def note(run_dir: Path, result: RunResult) -> None:
        left[result.alias] = (run_dir / result.alias / "budget" / "budget.txt").read_text().splitlines()[0]

    with openrouter(HERE / "scenario.toml") as upstream:
        if not image and not upstream.offline:
            raise SystemExit("with real models give --image: agents run what the models write")
        results = run_multi(
            MODELS,
            admin_key=upstream.admin_key,
            or_key=upstream.key,
            openrouter_base_url=upstream.base_url,
            budget_usd=BUDGET_USD,
            budget_mode="detailed",
            eject_policy=CompositeEject([TestsByThen(), default_eject_policies()]),
            on_complete=note,
            timeout_s=600,
            preflight_kwargs={"base_url": upstream.base_url, "common_required_params": ["tools"]},
            **place,
        )
    print()
    for result in results:
        print(f"{result.alias:<8} {left[result.alias]}; {result.error or 'ended by itself'}")
    broken = [result for result in results if result.error and not result.error.startswith("ejected: ")]
    return 1 if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="", help="an image with Python; without one agents run as processes")
    sys.exit(main(parser.parse_args().image))
