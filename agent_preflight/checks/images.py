"""Whether the agents' image is here."""

from datetime import UTC, datetime

from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import CheckLine, failed, passed
from agent_preflight.engine.client import on_engine
from agent_preflight.engine.failure import DockerError

DATE_CHARS = 19
"""Of a date that cannot be read: to the second, as a rule."""


def image_name(image: str) -> str:
    """Return what an image is called in the report."""
    return f"Docker image '{image}'"


def check_docker_image(inputs: Inputs, facts: Facts) -> list[CheckLine]:
    """Check that the image exists locally; no line if no image was named."""
    if not inputs.docker_image:
        return []
    image, name = inputs.docker_image, image_name(inputs.docker_image)
    try:
        found = on_engine(lambda engine: engine.image(image))
    except DockerError as exc:
        return [failed(name, str(exc), f"{name}: {exc}")]
    if found is None:
        return [
            failed(
                name,
                "not found",
                f"{name} not found",
                hint=f"docker pull {image}, or build it: docker build -t {image} .",
            )
        ]
    return [passed(name, f"created {_utc(found.created)}")]


def _utc(created: str) -> str:
    """Return an engine's date to the second, in UTC and marked so; as it is where it names no zone."""
    try:
        date = datetime.fromisoformat(created)
        if date.tzinfo is not None:
            return date.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        pass
    return created[:DATE_CHARS]
