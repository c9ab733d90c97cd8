"""What the tests of sweeps share: a run whose runner is killed."""

from tests.agent_preflight.runner.conftest import trials

__all__ = ["trials"]
