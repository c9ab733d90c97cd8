"""What the tests of commands on live runs share."""

from tests.agent_preflight.runner.conftest import trials
from tests.support.engine_thread import docker_host

__all__ = ["docker_host", "trials"]
