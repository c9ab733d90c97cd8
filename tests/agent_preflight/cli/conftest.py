"""What the tests of commands on live runs share."""

from tests.agent_preflight.runner.conftest import trials

__all__ = ["trials"]
