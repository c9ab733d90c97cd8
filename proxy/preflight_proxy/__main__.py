"""Serves until SIGTERM or SIGINT, with settings that come as JSON on standard input.

`python -m preflight_proxy` is a run's proxy; its runner brings the keys later. `python -m preflight_proxy standalone` opens its own
accounts, on the key in OPENROUTER_API_KEY.

All other modules are loaded inside `main`, because the process decides first how they are loaded.
"""

from __future__ import annotations

import gc
import os
import sys

NOT_LOADED = ("better_exceptions", "colorama", "rich", "typing_extensions")
"""What structlog and msgspec load if it is there. Rich alone takes 130 ms and 19 MB, to draw on a terminal; we write JSON lines."""


def main() -> int:
    """Read the settings, serve; the exit code. What failed is a sentence on standard error."""
    gc.disable()  # what is loaded stays; `serve` turns it on again
    try:
        _load_libraries()
        return _serve(is_standalone=sys.argv[1:] == ["standalone"])
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # nobody reads what a stand-alone proxy prints
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _load_libraries() -> None:
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


def _serve(*, is_standalone: bool) -> int:
    from preflight_proxy.base import log
    from preflight_proxy.core.errors import error_sentence
    from preflight_proxy.core.terminal import plain

    log.configure()
    try:
        return _serve_standalone() if is_standalone else _serve_run()
    except (OSError, RuntimeError) as exc:
        if (sentence := error_sentence(exc)) is None:
            raise
        prefix = "" if is_standalone else "preflight_proxy: "
        print(prefix + plain(sentence, keep_lines=True), file=sys.stderr)  # noqa: T201 - a person reads it
        return 1


def _serve_run() -> int:
    from msgspec.structs import replace

    from preflight_proxy.base.config import Config, read_config, user_quarantine_file
    from preflight_proxy.serve import serve_until_stopped

    config = read_config(sys.stdin.buffer.read(), Config)
    if config.quarantine_file is None:
        config = replace(config, quarantine_file=str(user_quarantine_file()))
    return serve_until_stopped(config)


def _serve_standalone() -> int:
    from preflight_proxy.base.config import StandaloneConfig, environment_key, read_config
    from preflight_proxy.standalone import serve

    return serve(read_config(sys.stdin.buffer.read(), StandaloneConfig), environment_key())


if __name__ == "__main__":
    sys.exit(main())
