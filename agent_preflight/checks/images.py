"""Whether the agents' image is here."""

from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import Line, failed, passed
from agent_preflight.engine.client import on_engine
from agent_preflight.engine.failure import DockerError

DATE_CHARS = 19


def image_name(image: str) -> str:
    """Return what an image is called in the report."""
    return f"Docker image '{image}'"


def check_docker_image(inputs: Inputs, facts: Facts) -> list[Line]:
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
    return [passed(name, f"created {found.created[:DATE_CHARS]}")]
