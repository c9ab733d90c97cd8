"""Which paths are served, in which spellings, and the answer to a client with a wrong base URL. Pure.

A client joins a base URL and a path of its own. A base URL that is one `/v1` or one slash off makes one of a few known
spellings; those are written out here and served. Nothing is normalised or decoded: every other path is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.error_body import RETRIED_DIGITS
from preflight_proxy.core.shapes.reading import Shape

API = "/api/v1"
MODEL_NAME = r"[A-Za-z0-9~][A-Za-z0-9._~-]{0,99}/[A-Za-z0-9][A-Za-z0-9._:-]{0,149}"
"""What can be a model's id in a path; nothing else is asked for."""
PREFIXES = (
    *(API, "/api/v1/", "/api//v1", "/api/v1/v1", "/api/v1//v1", "/api", "/api/"),
    *("/v1", "/v1/", "//v1", "/v1/v1", "", "/"),
)
"""What stands before a path where the base URL is right, or one `/v1` or one slash off; OpenAI's own base ends in `/v1`."""
READS = ("/key", "/auth/key", "/credits", "/budget", "/generation", "/models")
"""What an agent may read, below the base; `/models/{author}/{slug}/endpoints` besides."""

CALLS: Mapping[str, Shape] = {
    f"{prefix}{path}{end}": shape for path, shape in SHAPES.items() for prefix in PREFIXES for end in ("", "/")
}
"""Each spelling of a path that spends money, with its API."""
COUNTS = frozenset(f"{prefix}/messages/count_tokens{end}" for prefix in PREFIXES for end in ("", "/"))
"""Each spelling of the path that counts tokens, which spends nothing."""

_READ = re.compile(
    f"(?:{'|'.join(map(re.escape, PREFIXES))})({'|'.join(READS)}|/models/{MODEL_NAME}/endpoints)/?", re.ASCII
)
_ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]{1,253}|\[[0-9a-fA-F:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)


def read_path(path: str) -> str | None:
    """The path below the base of a read that is served; None for every other path."""
    match = _READ.fullmatch(path)
    return match[1] if match is not None else None


def dialect(path: str) -> Shape | None:
    """The API that a client of this path speaks, as far as the path tells; None for OpenRouter's own."""
    known = CALLS.get(path)
    if known is not None:
        return known
    return SHAPES["/messages"] if "messages" in path.split("/") else None


def wrong_path(path: str, origin: str) -> tuple[int, str]:
    """Status and text for a path that is not served.

    A client of the messages API hears 400: Claude Code takes a 404 for a fault of the chosen model.

    Args:
        path: As it came, without its query.
        origin: Scheme and host by which the client came; left out of the text if it is not of that form, or holds digits that make
            a client retry.
    """
    shown = origin if _ORIGIN.fullmatch(origin) and not any(digits in origin for digits in RETRIED_DIGITS) else "…"
    shape = dialect(path)
    if shape is not None and shape.name == "messages":
        base = f"The base URL of Anthropic's clients (ANTHROPIC_BASE_URL) is {shown}/api, without /v1."
        return 400, f"The budget proxy does not serve this path. {base} Nothing was sent."
    base = f"The base URL of OpenAI's and OpenRouter's clients (OPENAI_BASE_URL, OPENROUTER_BASE_URL) is {shown}{API}."
    return 404, f"The budget proxy does not serve this path. {base} Nothing was sent."
