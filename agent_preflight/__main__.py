"""`agent-preflight`, also as `python -m agent_preflight`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code.

    A proxy that has only plain options is served without the command line's parser, which would double the time of its start.
    """
    if sys.argv[1:2] == ["proxy"]:
        from preflight_proxy.__main__ import load_libraries, serve_standalone

        load_libraries()
        from agent_preflight.launch.proxy_command import plain_settings

        if (settings := plain_settings(sys.argv[2:])) is not None:
            sys.exit(serve_standalone(settings))
    from agent_preflight.cli import app

    app(prog_name="agent-preflight")


if __name__ == "__main__":
    main()
