"""Images: ours are built at first use from the files that ship with the package; nothing is ever pulled unasked."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path
from typing import Literal

from agent_preflight.docker import argv
from agent_preflight.docker.cli import BUILD_S_MAX, Docker
from agent_preflight.docker.failure import DockerError, Failure, explain

DEFAULT_BASE = "python:3.12-slim"
"""What our images are built on unless told otherwise; any image with `python3` of version 3.9 or later does."""

Kind = Literal["gate", "demo"]


def build_image(
    image_name: str, dockerfile: str = "Dockerfile", context: str = ".", *, executable: str = "docker"
) -> None:
    """Build an image from the user's own Dockerfile; docker's output goes where ours goes.

    Raises:
        RuntimeError: The build failed, or docker is not there.
    """
    docker = Docker(executable)
    done = docker.run_now("build", "-t", image_name, "-f", dockerfile, context, limit_s=BUILD_S_MAX, quiet=False)
    if done.returncode:
        raise DockerError(f"Docker build failed for '{image_name}'")


def image_exists(image_name: str, *, executable: str = "docker") -> bool:
    """Tell whether this engine has the image; False too where no engine answers."""
    with contextlib.suppress(DockerError):
        return Docker(executable).run_now("image", "inspect", image_name).returncode == 0
    return False


def remove_container(name: str, *, executable: str = "docker") -> None:
    """Remove a container, running or not; nothing happens where there is none."""
    with contextlib.suppress(DockerError):
        Docker(executable).run_now(*argv.remove([name]))


async def image_id(docker: Docker, name: str) -> str | None:
    """Return an image's id; None if the engine has no such image.

    Raises:
        DockerError: The engine did not answer the question.
    """
    done = await docker.run("image", "inspect", "-f", "{{.Id}}", name)
    match done.failure:
        case None:
            return done.stdout.strip()
        case Failure.GONE:
            return None
        case failure:
            raise DockerError(explain(f"looking for the image {name}", failure, done.stderr), failure)


async def ensure_image(kind: Kind, *, base: str | None = None, executable: str = "docker") -> str:
    """Return the id of our image of this kind, built first where this engine does not have it.

    Args:
        kind: `"gate"` or `"demo"`.
        base: The image to build on, which must be present; `DEFAULT_BASE` if None.
        executable: The docker command.

    Raises:
        DockerError: The base is not present, or the build failed.
    """
    docker, base = Docker(executable), base or DEFAULT_BASE
    context = context_dir(kind)
    name = f"agent-preflight-{kind}:{context_digest(context, base)}"
    if (found := await image_id(docker, name)) is not None:
        return found
    if await image_id(docker, base) is None:
        raise DockerError(
            f"the {kind} image is built on {base}, which is not on this machine, and nothing is pulled unasked: "
            f"run `docker pull {base}`, or set PREFLIGHT_GATE_BASE to an image with python3 that you have",
            Failure.GONE,
        )
    args = ("build", "--pull=false", "--network", "none", "--build-arg", f"BASE={base}", "-t", name, str(context))
    await docker.must(f"building {name}", *args, limit_s=BUILD_S_MAX)
    if (built := await image_id(docker, name)) is None:
        raise DockerError(f"docker built {name} and does not have it")
    return built


async def ensure_gate_image(*, base: str | None = None, executable: str = "docker") -> str:
    """Return the gate image's id, built first where this engine does not have it (see `ensure_image`)."""
    return await ensure_image("gate", base=base, executable=executable)


def context_dir(kind: Kind) -> Path:
    """Return the directory of a build context: inside the installed package, or in the source tree.

    Raises:
        DockerError: Neither is there.
    """
    package = Path(__file__).parent
    candidates = (package / f"{kind}_context", package.parents[1] / "docker" / kind)
    for candidate in candidates:
        if (candidate / "Dockerfile").is_file():
            return candidate
    raise DockerError(f"the build context of the {kind} image is missing from this installation")


def context_digest(context: Path, base: str) -> str:
    """Return 16 hexadecimal digits that change with any file of the context and with the base's name."""
    digest = hashlib.sha256(f"{base}\0".encode())
    for path in sorted(path for path in context.iterdir() if path.is_file() and not path.name.startswith(".")):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]
