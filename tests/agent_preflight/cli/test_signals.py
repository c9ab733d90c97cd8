"""SIGTERM during a run means what Ctrl-C means."""

import signal

import pytest

from agent_preflight.cli.signals import interruptible


def test_a_sigterm_is_an_interrupt_as_long_as_the_context_lasts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
