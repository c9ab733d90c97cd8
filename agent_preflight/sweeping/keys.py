"""Deletes the sub-keys of dead runs by the names in their plans, and keeps what OpenRouter had counted for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from agent_preflight.openrouter.http import Key
from agent_preflight.openrouter.subkeys import KeyInfo, delete_sub_key, list_keys
from agent_preflight.runs.folder import write_private
from agent_preflight.sweeping.leftovers import SWEPT_FILE, swept_keys


@dataclass(frozen=True, slots=True)
class KeyDeletions:
    """What became of the sub-keys of one run.

    Attributes:
        gone: Names of those that OpenRouter does not have, with the dollars that it had counted for each; None for one that
            it did not have before.
        left: Names of those whose deletion could not be verified.
        kept: Names of those whose usage is still needed, with why.
    """

    gone: dict[str, Decimal | None]
    left: tuple[str, ...]
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def deleted(self) -> list[str]:
        """Names of those that this sweep deleted."""
        return [name for name, usage in self.gone.items() if usage is not None]


class SubKeys:
    """The sub-keys of one OpenRouter account, as last listed.

    Args:
        admin_key: A management key.
        base_url: The API's base, where not the usual one.
        dry_run: Delete nothing.

    Raises:
        UpstreamError: They cannot be listed.
    """

    def __init__(self, admin_key: Key, base_url: str | None, *, dry_run: bool) -> None:
        self._admin_key, self._base_url, self._dry_run = admin_key, base_url, dry_run
        self._keys: list[KeyInfo] = []
        self.usages()

    def usages(self) -> dict[str, Decimal | None]:
        """List the keys again and return what each has used, by its hash.

        Raises:
            UpstreamError: They cannot be listed.
        """
        self._keys = list_keys(self._admin_key, self._base_url)
        return {key.hash: key.usage_usd for key in self._keys}

    def delete(self, names: Sequence[str], needed: Mapping[str, str]) -> KeyDeletions:
        """Delete the keys of these names; with `dry_run`, only say which exist.

        Args:
            names: Of the keys.
            needed: Hashes of keys that stay, because their usage is still needed, with why.
        """
        gone: dict[str, Decimal | None] = {}
        kept: dict[str, str] = {}
        for name in names:
            keys = [key for key in self._keys if key.name == name]
            if why := [needed[key.hash] for key in keys if key.hash in needed]:
                kept[name] = why[0]
            elif all(self._delete(key) for key in keys):
                gone[name] = sum((key.usage_usd or Decimal(0) for key in keys), Decimal(0)) if keys else None
        left = tuple(name for name in names if name not in gone and name not in kept)
        return KeyDeletions(gone, left, kept)

    def _delete(self, key: KeyInfo) -> bool:
        return self._dry_run or delete_sub_key(self._admin_key, key.hash, self._base_url)


def remember(run_dir: Path, keys: KeyDeletions) -> None:
    """Record the keys that are gone, so that later sweeps skip them, and what was counted for them, as evidence."""
    if not keys.gone:
        return
    at = datetime.now(UTC).isoformat()
    records = {
        name: {"usage_usd": None if usage is None else format(usage, "f"), "read_at": at}
        for name, usage in keys.gone.items()
    }
    write_private(run_dir / SWEPT_FILE, {"keys": {**swept_keys(run_dir), **records}})
