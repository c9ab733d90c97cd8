"""Whether a call may be sent, waits, or is refused."""
