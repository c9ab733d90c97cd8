"""Makes sub-keys at a simulated OpenRouter, as a runner does."""

from __future__ import annotations

from decimal import Decimal

import aiohttp


async def new_sub_key(
    client: aiohttp.ClientSession, base_url: str, admin_key: str, name: str, limit_usd: Decimal
) -> str:
    """Make a sub-key with this name and limit; return its secret."""
    headers = {"Authorization": f"Bearer {admin_key}"}
    body = {"name": name, "limit": float(limit_usd)}
    async with client.post(f"{base_url}/keys", json=body, headers=headers) as answer:
        return str((await answer.json())["key"])
