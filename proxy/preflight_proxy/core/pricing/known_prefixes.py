"""What is known of beginnings of prompts, such as what they were billed at (M4 (calibration)): a collection of limited size."""

from __future__ import annotations

from typing import Generic, TypeVar

from preflight_proxy.core.shapes.memo import DIGEST_BYTES
from preflight_proxy.core.shapes.shape import Prompt

TRIES_MAX = 64
"""Known lengths of a prefix that are tried, the longest first: more than conversations that one account has side by side."""
TRIED_BYTES_MAX = 2**20
"""Bytes of digests that are read for these tries; more take longer than they save."""

Value = TypeVar("Value")
PrefixFields = tuple[str, str, str, bytes]
"""Account, model, endpoint, and the digest of all fields but the messages."""


class _SameFields(Generic[Value]):
    """The prefixes with the same fields: values by the digest of the messages, and which numbers of messages there are."""

    __slots__ = ("counts", "values")

    def __init__(self) -> None:
        self.counts: set[int] = set()
        self.values: dict[bytes, Value] = {}


class KnownPrefixes(Generic[Value]):
    """A value for each known prefix. Those that were not stored or used for long are forgotten.

    Like `Recent`, in two generations; in each, the prefixes with the same fields lie together.
    """

    def __init__(self, prefixes_max: int) -> None:
        self._half = prefixes_max // 2
        self._young_count = 0
        self._young: dict[PrefixFields, _SameFields[Value]] = {}
        self._old: dict[PrefixFields, _SameFields[Value]] = {}

    def get(self, fields: PrefixFields, count: int, digest: bytes) -> Value | None:
        """Return the value of so many messages, which counts as a use of it; None if there is none."""
        for prefixes in (self._young, self._old):
            if (same := prefixes.get(fields)) is not None and (value := same.values.get(digest)) is not None:
                if prefixes is self._old:
                    self.remember(fields, count, digest, value)
                return value
        return None

    def longest(self, fields: PrefixFields, prompt: Prompt, count_max: int) -> tuple[int, Value] | None:
        """Return the longest known prefix of at most `count_max` messages, as their number and its value.

        Args:
            fields: All but the messages.
            prompt: The messages.
            count_max: How many messages it has at most.
        """
        young, old = self._young.get(fields), self._old.get(fields)
        if (either := young or old) is None:
            return None
        counts = young.counts | old.counts if young and old else either.counts
        tries = tried_bytes = 0
        for count in range(count_max, -1, -1):
            if count not in counts:
                continue
            tries, tried_bytes = tries + 1, tried_bytes + count * DIGEST_BYTES
            if tries > 1 and (tries > TRIES_MAX or tried_bytes > TRIED_BYTES_MAX):
                return None
            if (value := self.get(fields, count, prompt.prefix_digest(count))) is not None:
                return count, value
        return None

    def remember(self, fields: PrefixFields, count: int, digest: bytes, value: Value) -> None:
        """Store the value of so many messages."""
        same = self._young.get(fields)
        if same is None or digest not in same.values:
            if self._young_count >= self._half:
                self._old, self._young, self._young_count = self._young, {}, 0
            if (same := self._young.get(fields)) is None:
                same = self._young[fields] = _SameFields()
            same.counts.add(count)
            self._young_count += 1
        same.values[digest] = value
