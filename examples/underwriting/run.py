"""Three underwriters decide the same loan applications, each under its own cap in dollars.

    python examples/underwriting/run.py                                    # as processes of this machine
    python examples/underwriting/run.py --image python:3.12-slim           # in sealed containers

Without OPENROUTER_BASE_URL it starts an offline OpenRouter, which needs no account and no money; see ../offline.py.
"""

import argparse
import sys
from pathlib import Path

from service import APPLICATIONS, LENDING_CAP_USD, Office, start

from agent_preflight import http_health, run_multi

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from offline import openrouter  # noqa: E402 - beside the examples' folders

DESKS = {
    "nano": ("openai/gpt-4.1-nano", "0.02"),
    "mini": ("openai/gpt-4.1-mini", "0.02"),
    "haiku": ("anthropic/claude-haiku-4.5", "0.016"),
}
"""Model and cap of each. The third cannot pay for all of its applications: it ends when the next call does not fit."""


def main(image: str) -> int:
    office = Office()
    service = start(office)
    where = f"127.0.0.1:{service.server_address[1]}"
    if image:
        place = {"image_name": image, "docker_args": ["--entrypoint", "python3"], "network": "sealed"}
        place |= {"mounts": [f"{HERE}:/example:ro"], "command": None}
        script = "/example/agent.py"
    else:
        place, script = {"sandbox": "process", "command": [sys.executable]}, str(HERE / "agent.py")
    with openrouter(HERE / "scenario.toml") as upstream:
        results = run_multi(
            [(model, desk) for desk, (model, _) in DESKS.items()],
            admin_key=upstream.admin_key,
            or_key=upstream.key,
            openrouter_base_url=upstream.base_url,
            budget_usd={desk: cap for desk, (_, cap) in DESKS.items()},
            container_args={desk: [script, desk] for desk in DESKS},
            services={"los": where},
            timeout_s=300,
            preflight_kwargs={
                "base_url": upstream.base_url,
                "common_required_params": ["tools"],
                "infra": [
                    http_health(
                        f"http://{where}/health",
                        name="loan office",
                        require={"status": "ready"},
                        min_version="2.0.0",
                        hint="start the loan office",
                    )
                ],
            },
            **place,
        )
    service.shutdown()
    print()
    for result in results:
        decided, lent = office.decided[result.alias], office.lent_by(result.alias)
        spent, cap = result.preflight["posted_usd"], result.preflight["limit_usd"]
        print(
            f"{result.alias:<8}{len(decided)} of {len(APPLICATIONS)} decided, ${lent:,} lent, ${spent} of ${cap} spent"
        )
    broken = [result for result in results if result.error and not result.error.startswith("ejected: ")]
    return 1 if broken or any(office.lent_by(desk) > LENDING_CAP_USD for desk in DESKS) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", default="", help="an image with Python; without one agents run as processes")
    sys.exit(main(parser.parse_args().image))
