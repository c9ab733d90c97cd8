"""`agent-preflight`, also as `python -m agent_preflight`."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code."""
    from agent_preflight.cli import app

    app(prog_name="agent-preflight")


if __name__ == "__main__":
    main()
