"""The group of commands, with the behaviour that scripts rely on where typer's own differs."""

from __future__ import annotations

import difflib
import errno
import sys
from collections.abc import Sequence

import typer
from typer.core import TyperGroup

from preflight_proxy.core.errors import OperatingError


class Commands(TyperGroup):
    """No arguments print the help and exit with 0; an unknown command exits with 1; what fails says so in a sentence."""

    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]
        """Name the commands in their order; those with commands of their own come last."""
        return sorted(super().list_commands(ctx), key=lambda name: isinstance(self.commands[name], TyperGroup))

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # click's own Context
        """Take no arguments for `--help`."""
        return super().parse_args(ctx, args or ["--help"])

    def resolve_command(self, ctx: typer.Context, args: list[str]) -> object:  # type: ignore[override]
        """Find the command, or say which there are."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            complain(_unknown(name, self.list_commands(ctx)))
            ctx.exit(1)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run the command; an operating error is a sentence on stderr, with its notes, and exit code 1."""
        try:
            return super().invoke(ctx)
        except OperatingError as exc:
            return _fail(ctx, str(exc), exc)
        except OSError as exc:
            if exc.errno == errno.EPIPE:  # who read along is gone
                raise
            return _fail(ctx, _sentence(exc), exc)
        except RuntimeError as exc:
            if not str(exc).startswith("Symlink loop"):  # as Python before 3.13 says ELOOP
                raise
            return _fail(ctx, f"{exc}: give another path.", exc)


def _fail(ctx: typer.Context, text: str, exc: Exception) -> object:
    complain("\n".join((text, *getattr(exc, "__notes__", ()))))
    return ctx.exit(1)


def _sentence(exc: OSError) -> str:
    """What the operating system refused, and of which file."""
    reason = (exc.strerror or str(exc) or type(exc).__name__).rstrip(".")
    place = "" if exc.filename is None else f"{exc.filename}: "
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{place}{reason}. Free some room there, then run the command again."
    return f"{place}{reason}. Give another path, or change who may use this one."


def _unknown(name: str, commands: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, commands, n=1)
    hint = f" Do you mean `{near[0]}`?" if near else ""
    return f"Unknown command: {name}.{hint} Available: {', '.join(commands)}"


def complain(text: str) -> None:
    """Print a line on standard error, without escapes that came from elsewhere."""
    from agent_preflight.base.terminal import plain

    sys.stderr.write(plain(text, keep_lines=True) + "\n")
    sys.stderr.flush()


def emit_json(text: str) -> None:
    """Print a line for machines on standard output."""
    sys.stdout.write(text + "\n")
