"""What an agent finds in its environment: where the proxy is, a token for it, and nothing worth stealing. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from agent_preflight.environment.trust import trust_env

GATE_PORT = 8788
"""The port of the proxy inside a container."""
GATE_BASE_URL = f"http://127.0.0.1:{GATE_PORT}/api/v1"
CONTAINER_BUDGET_FILE = "/run/preflight/budget.txt"
"""Where the budget directory is mounted in a container (C16)."""


def agent_env(
    user: Mapping[str, str],
    *,
    token: str,
    base_url: str,
    budget_file: str,
    model_id: str,
    own_authority: bool = False,
) -> dict[str, str]:
    """Return an agent's variables: the user's own, then ours.

    `OPENROUTER_API_KEY` is always the trial token. Each client family (OpenRouter's base URLs, OpenAI, Anthropic) is left
    alone where the user names any variable of it.

    Args:
        user: The user's own variables.
        token: The trial token.
        base_url: The proxy as the agent reaches it, ending in `/api/v1`.
        budget_file: Path of budget.txt as the agent sees it.
        model_id: Told as `PREFLIGHT_MODEL`, so that one image serves a field of models.
        own_authority: The trial's gate is `openrouter.ai`, by the run's own authority (C10).
    """
    env = {"PREFLIGHT_MODEL": model_id, **user, "PREFLIGHT_BUDGET_FILE": budget_file}
    if own_authority:
        env |= trust_env(user)
    for family in _families(token, base_url):
        if not family.keys() & user.keys():
            env |= family
    env["OPENROUTER_API_KEY"] = token
    return env


def _families(token: str, base_url: str) -> tuple[dict[str, str], ...]:
    anthropic_base = base_url.removesuffix("/v1")
    return (
        {"OPENROUTER_BASE_URL": base_url, "OPENROUTER_API_BASE": base_url},
        {"OPENAI_API_KEY": token, "CODEX_API_KEY": token, "OPENAI_BASE_URL": base_url},
        {"ANTHROPIC_AUTH_TOKEN": token, "ANTHROPIC_API_KEY": "", "ANTHROPIC_BASE_URL": anthropic_base},
    )
