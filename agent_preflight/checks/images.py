"""Whether the agents' image is here."""

from agent_preflight import commands
from agent_preflight.checks.inputs import Facts, Inputs
from agent_preflight.checks.line import Line, failed, passed

TIMEOUT_S = 15.0
DATE_CHARS = 19


def check_docker_image(inputs: Inputs, facts: Facts) -> list[Line]:
    """Check that the image exists locally; no line if no image was named."""
    if not inputs.docker_image:
        return []
    image, name = inputs.docker_image, f"Docker image '{inputs.docker_image}'"
    argv = ["docker", "image", "inspect", "--format", "{{.Created}}", image]
    match commands.run(argv, timeout_s=TIMEOUT_S):
        case commands.Finished(code=0, stdout=created):
            return [passed(name, f"created {created[:DATE_CHARS]}")]
        case commands.Finished(stderr=stderr) if "no such" in stderr.lower() or not stderr:
            return [failed(name, "not found", f"{name} not found")]
        case commands.Finished(stderr=stderr):
            return [failed(name, stderr[:200], f"{name} not found: {stderr[:200]}")]
        case commands.NotInstalled():
            return [failed(name, "docker CLI not found", f"{name} not found: docker CLI not found")]
        case commands.TimedOut():
            return [failed(name, "docker did not answer", f"{name} not found: no answer in {TIMEOUT_S:.0f}s")]
