"""A top-up after the budget was spent and the refusals had escalated (M19)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drills.stage import stage

pytestmark = pytest.mark.wire


async def test_the_next_call_after_a_top_up_is_served_and_the_escalation_is_forgotten(tmp_path: Path) -> None:
    async with stage(tmp_path) as play:
        await play.proxy.start()
        account = await play.open("a", "0.0001")

        async def asked() -> int:
            return (await play.call(account, "word " * 200, max_tokens=2000))[0]

        statuses = [await asked() for _ in range(3)]
        assert statuses == [402, 401, 401]
        await play.proxy.control("PATCH", f"/accounts/{account.id}", {"limit_usd": "0.01"})
        assert await asked() == 200
        await play.proxy.control("PATCH", f"/accounts/{account.id}", {"limit_usd": "0.0001"})
        assert await asked() == 402
