"""What the tests of commands on live runs share."""

from tests.support.engine_thread import docker_host

__all__ = ["docker_host"]
