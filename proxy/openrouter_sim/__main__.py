"""`python -m openrouter_sim`."""

from __future__ import annotations

import argparse
from pathlib import Path

from openrouter_sim.serve import serve


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="openrouter_sim", description="An offline OpenRouter.")
    parser.add_argument("--listen", default="127.0.0.1:8799", metavar="HOST:PORT")
    parser.add_argument("--scenario", type=Path, metavar="FILE")
    parser.add_argument("--ready-file", type=Path, metavar="FILE")
    options = parser.parse_args()
    try:
        serve(options.listen, options.scenario, options.ready_file)
    except (OSError, ValueError) as exc:
        parser.exit(2, f"openrouter_sim: {exc}\n")


if __name__ == "__main__":
    main()
