"""The sub-keys of dead runs: found by the names in their plans, deleted, seen to be gone, and what was counted for them kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from agent_preflight.openrouter import Key
from agent_preflight.runner.folder import write_private
from agent_preflight.subkeys import KeyInfo, delete_sub_key, list_keys
from agent_preflight.sweeping.remains import SWEPT_FILE, swept_keys


@dataclass(frozen=True, slots=True)
class DeletedKeys:
    """What became of the sub-keys of one run.

    Attributes:
        gone: Names of those that are seen not to be there, with the dollars that OpenRouter had counted for each; None for one
            that was not there before.
        left: Names of those that could not be seen to be deleted.
    """

    gone: dict[str, Decimal | None]
    left: tuple[str, ...]

    @property
    def deleted(self) -> list[str]:
        """Names of those that were there."""
        return [name for name, usage in self.gone.items() if usage is not None]


class SubKeys:
    """The keys of one OpenRouter account, listed once.

    Args:
        admin_key: A management key.
        base_url: The API's base, where not the usual one.
        dry_run: Delete nothing.

    Raises:
        UpstreamError: They cannot be listed.
    """

    def __init__(self, admin_key: Key, base_url: str | None, *, dry_run: bool) -> None:
        self._admin_key, self._base_url, self._dry_run = admin_key, base_url, dry_run
        self._by_name: dict[str, list[KeyInfo]] = {}
        for key in list_keys(admin_key, base_url):
            self._by_name.setdefault(key.name, []).append(key)

    def delete(self, names: Sequence[str]) -> DeletedKeys:
        """Delete the keys of these names; with `dry_run` say which are there."""
        gone: dict[str, Decimal | None] = {}
        for name in names:
            found = self._by_name.get(name, [])
            if all(self._delete(key) for key in found):
                gone[name] = sum((key.usage_usd or Decimal(0) for key in found), Decimal(0)) if found else None
        return DeletedKeys(gone, tuple(name for name in names if name not in gone))

    def _delete(self, key: KeyInfo) -> bool:
        return self._dry_run or delete_sub_key(self._admin_key, key.hash, self._base_url)


def remember(run_dir: Path, keys: DeletedKeys) -> None:
    """Note the keys that are gone, so that no later sweep asks for them, and what was counted for them, as evidence."""
    if not keys.gone:
        return
    at = datetime.now(UTC).isoformat()
    seen = {
        name: {"usage_usd": None if usage is None else format(usage, "f"), "read_at": at}
        for name, usage in keys.gone.items()
    }
    write_private(run_dir / SWEPT_FILE, {"keys": {**swept_keys(run_dir), **seen}})
