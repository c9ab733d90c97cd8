"""Runs part of a test without root's rights to files, where the tests run as root."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

NOBODY_UID = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Use the effective user `nobody` inside the block, if the tests run as root."""
    before = os.geteuid()
    os.seteuid(before or NOBODY_UID)
    try:
        yield
    finally:
        os.seteuid(before)
