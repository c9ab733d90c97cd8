"""`agent-preflight init`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agent_preflight.cli.group import complain


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.")] = Path("preflight.toml"),
) -> None:
    """Write a commented preflight.toml for `agent-preflight run`.

    Nothing is ever overwritten: if the file is there, it stays as it is and the exit code is 1.

    Example: agent-preflight init && agent-preflight run
    """
    from importlib.resources import files

    from agent_preflight.base.console import say

    example = files("agent_preflight.options") / "example.toml"
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(example.read_text("utf-8"))
    except FileExistsError:
        complain(f"{path} is there already; it stays as it is.")
        raise typer.Exit(1) from None
    except OSError as exc:
        complain(f"{path} cannot be written: {exc.strerror}.")
        raise typer.Exit(1) from None
    say(f"Wrote {path}: set the models and the image, then `agent-preflight run`.")
