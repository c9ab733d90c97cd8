"""SIGTERM during a run means what Ctrl-C means."""

import os
import signal

import pytest

from agent_preflight.cli.signals import interruptible


def test_sigterm_interrupts_while_the_context_lasts_and_not_after() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
