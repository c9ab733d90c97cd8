"""What an agent finds in its environment."""

from agent_preflight.environment.agent_env import GATE_BASE_URL, agent_env


def env_of(user: dict[str, str]) -> dict[str, str]:
    return agent_env(user, token="pf-t", base_url=GATE_BASE_URL, budget_file="/b", model_id="m/m")


def test_every_client_family_finds_the_proxy_and_the_token() -> None:
    env = env_of({})
    assert env["OPENROUTER_API_KEY"] == env["OPENAI_API_KEY"] == env["ANTHROPIC_AUTH_TOKEN"] == "pf-t"
    assert env["CODEX_API_KEY"] == "pf-t"
    assert env["OPENROUTER_BASE_URL"] == env["OPENROUTER_API_BASE"] == env["OPENAI_BASE_URL"] == GATE_BASE_URL
    assert env["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8788/api"
    assert env["ANTHROPIC_API_KEY"] == ""
    assert env["PREFLIGHT_BUDGET_FILE"] == "/b"
    assert env["PREFLIGHT_MODEL"] == "m/m"


def test_a_family_that_the_user_names_is_left_alone_and_the_others_are_not() -> None:
    env = env_of({"OPENAI_API_KEY": "own"})
    assert env["OPENAI_API_KEY"] == "own"
    assert "CODEX_API_KEY" not in env
    assert "OPENAI_BASE_URL" not in env
    assert env["ANTHROPIC_AUTH_TOKEN"] == "pf-t"


def test_the_users_own_openrouter_key_never_reaches_the_agent() -> None:
    assert env_of({"OPENROUTER_API_KEY": "sk-or-real"})["OPENROUTER_API_KEY"] == "pf-t"


def test_the_users_other_variables_stand_and_a_model_of_theirs_wins() -> None:
    env = env_of({"X": "1", "PREFLIGHT_MODEL": "mine"})
    assert (env["X"], env["PREFLIGHT_MODEL"]) == ("1", "mine")
