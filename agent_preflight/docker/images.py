"""Images: ours are built at first use from the files that ship with the package; nothing is pulled."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Literal

from agent_preflight.base import commands
from agent_preflight.engine.client import Engine, Image, on_engine
from agent_preflight.engine.failure import DockerError, Failure

DEFAULT_BASE = "python:3.12-slim"
"""What our images are built on by default; any image with `python3` of version 3.9 or later will do."""
LOCAL_BASE = "local/python:base"
"""An image of plain Python that machines without a registry build for themselves."""
USERS_BUILD_S_MAX = 1800.0
"""Someone's image may install a lot."""

ImageKind = Literal["gate", "demo"]


def build_image(image_name: str, dockerfile: str = "Dockerfile", context: str = ".") -> None:
    """Build an image from a Dockerfile of yours with the program `docker`; its output goes where this program's output goes.

    The program is needed for this alone, because BuildKit, `.dockerignore` and the passwords of registries belong to it.

    Args:
        image_name: The name of the image, with or without a tag.
        dockerfile: The path of the Dockerfile.
        context: The folder whose files the build may use.

    Raises:
        DockerError: The build failed or took longer than 30 minutes, or there is no program `docker`. It is a RuntimeError.
    """
    try:
        code, _ = commands.run(
            ["docker", "build", "-t", image_name, "-f", dockerfile, context], timeout_s=USERS_BUILD_S_MAX, shown=True
        )
    except commands.CommandError as exc:
        raise DockerError(f"'{image_name}' was not built with the program docker: {exc}", Failure.REFUSED) from exc
    if code != 0:
        raise DockerError(f"Docker build failed for '{image_name}'")


def image_exists(image_name: str) -> bool:
    """Return whether the engine has the image. False also if no engine answers.

    Args:
        image_name: The name of the image, with or without a tag.
    """
    with contextlib.suppress(DockerError):
        return on_engine(lambda engine: engine.image(image_name)) is not None
    return False


def remove_container(name: str) -> None:
    """Remove a container, running or not. Nothing is raised if there is none, or if no engine answers.

    Args:
        name: The container's name or id.
    """
    with contextlib.suppress(DockerError):
        on_engine(lambda engine: engine.remove(name))


async def agents_image(engine: Engine, name: str) -> Image:
    """Return the image that agents run in.

    Raises:
        DockerError: The engine does not have it; the text says what to do.
    """
    if (image := await engine.image(name)) is None:
        raise DockerError(missing_image(name), Failure.GONE)
    return image


def missing_image(name: str) -> str:
    """Say that the engine does not have the agents' image, and what to do."""
    return (
        f"The image {name} is missing, and nothing is pulled unasked. Run `docker pull {name}`, or build it: "
        f"`docker build -t {name} .`"
    )


async def missing_base(engine: Engine, kind: ImageKind, base: str | None = None) -> str | None:
    """Say that our image of this kind can be neither found nor built, and what to do; None if it can be used."""
    base = base or DEFAULT_BASE
    if await engine.image(image_of(kind, base)) is not None or await engine.image(base) is not None:
        return None
    pythons: list[str] = []  # images here that are likely to have python3
    with contextlib.suppress(DockerError):
        tags = [str(tag) for image in await engine.listed("images", {}) for tag in image.get("RepoTags") or ()]
        pythons = sorted((tag for tag in tags if "python" in tag), key=lambda tag: (len(tag), tag))
    setting = "PREFLIGHT_GATE_BASE" if kind == "gate" else "PREFLIGHT_DEMO_BASE (or --base)"
    other = f"one with python3 that you have, such as {pythons[0]}" if pythons else "an image with python3"
    return (
        f"The image {base} is missing, on which the {kind} image is built. "
        f"Run `docker pull {base}`, or set {setting} to {other}."
    )


def image_of(kind: ImageKind, base: str) -> str:
    """Return the name of our image of this kind on this base; another version of its files has another name."""
    digest = hashlib.sha256(f"{base}\0".encode() + context_archive(context_dir(kind)))
    return f"agent-preflight-{kind}:{digest.hexdigest()[:16]}"


async def ensure_image(engine: Engine, kind: ImageKind, base: str | None = None) -> str:
    """Return the id of our image of this kind; it is built first if this engine does not have it.

    Args:
        engine: Where it is needed.
        kind: `"gate"` or `"demo"`.
        base: The image to build on, which must be present; `DEFAULT_BASE` if None.

    Raises:
        DockerError: The base is not present, or the build failed.
    """
    base = base or DEFAULT_BASE
    name = image_of(kind, base)
    if (image := await engine.image(name)) is not None:
        return image.id
    if (missing := await missing_base(engine, kind, base)) is not None:
        raise DockerError(missing, Failure.GONE)
    await engine.build(name, context_archive(context_dir(kind)), {"BASE": base})
    if (built := await engine.image(name)) is None:
        raise DockerError(f"Docker built {name} and does not have it")
    return built.id


def context_dir(kind: ImageKind) -> Path:
    """Return the directory of a build context: inside the installed package, or in the source tree.

    Raises:
        DockerError: Neither is there.
    """
    package = Path(__file__).parent
    for folder in (package / f"{kind}_context", package.parents[1] / "docker" / kind):
        if (folder / "Dockerfile").is_file():
            return folder
    raise DockerError(f"the build context of the {kind} image is missing from this installation")


def context_archive(context: Path) -> bytes:
    """Return the files of a context as a tar archive: the same bytes as long as no name and no content changes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path in sorted(path for path in context.iterdir() if path.is_file() and not path.name.startswith(".")):
            entry, content = tarfile.TarInfo(path.name), path.read_bytes()
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
