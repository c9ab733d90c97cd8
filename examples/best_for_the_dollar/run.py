"""Five models sort the same letters, four times each: which one does it best for its dollar?

    python examples/best_for_the_dollar/run.py                                 # offline, as processes of this machine
    python examples/best_for_the_dollar/run.py --image python:3.12-slim        # in sealed containers

Each trial gets the same sixteen letters and the same budget, and files each letter into a tray. `score.py` then judges what it
wrote, and the table says what each model cost for each success. `preflight.toml` has the options of the run. Afterwards:

    agent-preflight report RUN_ID

**Offline, a simulated model knows nothing.** It cannot read a letter, so whether it files one rightly is drawn, by a seed and a
share for each model (`desk/agent.py`); one trial of gemini stops in the middle of its work, to show what becomes of it. The
calls, their prices, the budgets and the scoring are as in any other run. With OPENROUTER_BASE_URL set, models decide themselves:
unset it first if it leads to the simulator, whose models then file no letter rightly.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

from score import TRAYS

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from offline import openrouter  # noqa: E402 - beside the examples' folders


def command(image: str, more: list[str]) -> list[str]:
    """The command line of the run; what it does not say is in preflight.toml."""
    score = shlex.join([sys.executable, str(HERE / "score.py")])
    line = [sys.executable, "-m", "agent_preflight", "run", "--config", str(HERE / "preflight.toml"), "--score", score]
    where, agent = ["--image", image], "/desk/agent.py"
    if not image:
        where, agent = ["--sandbox", "process"], str(HERE / "desk" / "agent.py")
    return [*line, *where, *more, "--", *([] if image else [sys.executable]), "-u", agent, "{alias}"]


def main(image: str, more: list[str]) -> int:
    with openrouter(HERE / "scenario.toml") as upstream:
        keys = {"OR_ADMIN_KEY": upstream.admin_key, "OPENROUTER_API_KEY": upstream.key}
        drawn = ["--env", f"RIGHT_TRAYS={json.dumps(TRAYS)}"] if upstream.offline else []
        env = os.environ | keys | {"OPENROUTER_BASE_URL": upstream.base_url}
        return subprocess.run(command(image, [*drawn, *more]), env=env, check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog="Other options go to the run."
    )
    parser.add_argument("--image", default="", help="an image with Python; without one agents run as processes")
    known, others = parser.parse_known_args()
    sys.exit(main(known.image, others))
