"""Model names: the id that has a price list, and the suffix that only steers routing.

Source: openrouter.ai/docs/guides/routing/model-variants, 2026-10.
"""

from __future__ import annotations

import re
from functools import lru_cache

from preflight_proxy.core.shapes.body import BadRequest

ROUTING_SUFFIXES = frozenset({"floor", "exacto"})
"""They choose among the same endpoints at the same prices."""
REFUSED_SUFFIXES = {
    "online": "it searches the web for each call, at a price of its own",
    "nitro": "it may be served at a dearer tier than the price list states",
    "batch": "it is billed hours later",
}
_NAME = re.compile(r"~?[A-Za-z0-9][\w.+-]*(?:/[A-Za-z0-9@][\w.+-]*){0,3}(?::[\w.+-]+){0,3}", re.ASCII)
_NAME_CHARS_MAX = 200
_PREFIX = "openrouter/"
_ROUTERS = ("openrouter/", "@preset", "~openrouter/")


@lru_cache(maxsize=1024)
def split_model(model: str) -> tuple[str, str]:
    """The model id that has a price list, in lower case, and its routing suffixes without the first colon ("" if none).

    `:free`, `:thinking` and `:extended` are models of their own, so they stay with the id.
    """
    base, *suffixes = model.lower().split(":")
    routing = [suffix for suffix in suffixes if suffix in ROUTING_SUFFIXES or suffix in REFUSED_SUFFIXES]
    own = [suffix for suffix in suffixes if suffix not in routing]
    return ":".join([base, *own]), ":".join(routing)


def bare_model(model: str) -> str:
    """The id as OpenRouter knows it: without the prefix by which litellm and others choose it among providers.

    OpenRouter's own ids have one slash (`openrouter/auto`), and stay. Source: docs.litellm.ai/docs/providers/openrouter, 2026-10.
    """
    if model.lower().startswith(_PREFIX) and "/" in model[len(_PREFIX) :]:
        return model[len(_PREFIX) :]
    return model


def check_model(model: str) -> None:
    """Check that a model's price is the listed one.

    Raises:
        BadRequest: It is a router, a preset, or has a suffix that changes the price; the text says what it means for money.
    """
    if not model:
        raise BadRequest("Name a model: without one, the price of the call is not known.")
    lower = model.lower()
    if lower.startswith(_ROUTERS) or "@preset" in lower:
        raise BadRequest(
            "Routers and presets are refused: they choose the model, and with it the price, after the budget was checked. "
            "Name one model."
        )
    if len(model) > _NAME_CHARS_MAX or _NAME.fullmatch(model) is None:
        raise BadRequest("The field 'model' must be a model's id, such as author/name.")
    base, suffixes = split_model(model)
    for suffix in suffixes.split(":"):
        if suffix in REFUSED_SUFFIXES:
            raise BadRequest(f"The suffix :{suffix} is refused: {REFUSED_SUFFIXES[suffix]}. Ask for {base} instead.")
