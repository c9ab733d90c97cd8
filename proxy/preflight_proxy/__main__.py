"""`python -m preflight_proxy`: serve with the settings that come as JSON on standard input, until SIGTERM."""

from __future__ import annotations

import sys

import msgspec

from preflight_proxy.base import log
from preflight_proxy.base.config import read_config, user_quarantine_file
from preflight_proxy.core.errors import OperatingError
from preflight_proxy.serve import serve_until_stopped


def main() -> int:
    """Read the settings, serve; the exit code."""
    log.configure()
    try:
        config = read_config(sys.stdin.buffer.read())
        if config.quarantine_file is None:
            config = msgspec.structs.replace(config, quarantine_file=str(user_quarantine_file()))
        return serve_until_stopped(config)
    except OperatingError as exc:
        print(f"preflight_proxy: {exc}", file=sys.stderr)  # noqa: T201 - the one line a person reads
        return 1


if __name__ == "__main__":
    sys.exit(main())
