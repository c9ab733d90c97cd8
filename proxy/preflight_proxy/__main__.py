"""Serves until SIGTERM or SIGINT: `python -m preflight_proxy` is a run's proxy, with settings as JSON on standard input.

All other modules are loaded inside functions, because the process decides first how they are loaded.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from preflight_proxy.base.config import StandaloneConfig

NOT_LOADED = ("better_exceptions", "colorama", "rich", "typing_extensions")
"""What structlog and msgspec load if it is there. Rich alone takes 130 ms and 19 MB, to draw on a terminal; we write JSON lines."""


def main() -> int:
    """Serve a run, whose runner brings the keys later; the exit code. What failed is a sentence on standard error."""
    return _exit_code(_serve_run, "preflight_proxy: ")


def serve_standalone(settings: StandaloneConfig) -> int:
    """Serve accounts of its own, on the key in OPENROUTER_API_KEY; the exit code. What failed is a sentence on standard error."""

    def serve_accounts() -> int:
        from preflight_proxy.base.config import environment_key
        from preflight_proxy.standalone import serve

        return serve(settings, environment_key())

    return _exit_code(serve_accounts, "")


def load_libraries() -> None:
    """Load them without `NOT_LOADED`: an entry of None makes its import raise ImportError, which they expect."""
    loaded: dict[str, object] = sys.modules  # type: ignore[assignment]  # None is allowed
    absent = [name for name in NOT_LOADED if name not in loaded]
    loaded.update(dict.fromkeys(absent))
    try:
        import msgspec  # noqa: F401
        import structlog  # noqa: F401
    finally:
        for name in absent:
            del loaded[name]


def _exit_code(serve: Callable[[], int], prefix: str) -> int:
    gc.disable()  # what is loaded stays; `serve` turns it on again
    load_libraries()
    from preflight_proxy.base import log
    from preflight_proxy.core.errors import error_sentence
    from preflight_proxy.core.terminal import plain

    log.configure()
    try:
        return serve()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # nobody reads what a stand-alone proxy prints
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (OSError, RuntimeError) as exc:
        if (sentence := error_sentence(exc)) is None:
            raise
        print(prefix + plain(sentence, keep_lines=True), file=sys.stderr)  # noqa: T201 - a person reads it
        return 1


def _serve_run() -> int:
    from msgspec.structs import replace

    from preflight_proxy.base.config import read_config, user_quarantine_file
    from preflight_proxy.serve import serve_until_stopped

    config = read_config(sys.stdin.buffer.read())
    if config.quarantine_file is None:
        config = replace(config, quarantine_file=str(user_quarantine_file()))
    return serve_until_stopped(config)


if __name__ == "__main__":
    sys.exit(main())
