"""Which variables name the bundle, and whose win."""

from agent_preflight.environment.agent_env import agent_env
from agent_preflight.environment.trust import CONTAINER_BUNDLE, TRUST_VARIABLES, trust_env, trust_warnings


def test_every_variable_names_the_bundle() -> None:
    assert trust_env({}) == dict.fromkeys(TRUST_VARIABLES, CONTAINER_BUNDLE)
    assert len(TRUST_VARIABLES) == 8


def test_the_users_own_value_wins_with_a_warning_that_says_what_to_do() -> None:
    env = agent_env(
        {"SSL_CERT_FILE": "/mine.pem", "PIP_CERT": ""},
        token="pf-t",
        base_url="http://127.0.0.1:8788/api/v1",
        budget_file="/run/preflight/budget.txt",
        model_id="m",
        own_authority=True,
    )
    assert (env["SSL_CERT_FILE"], env["PIP_CERT"], env["CURL_CA_BUNDLE"]) == ("/mine.pem", "", CONTAINER_BUNDLE)
    (warning,) = trust_warnings({"SSL_CERT_FILE": "/mine.pem", "PIP_CERT": "", "OTHER": "x"})
    assert "SSL_CERT_FILE, PIP_CERT are yours" in warning
    assert "base URL" in warning


def test_without_own_variables_there_is_nothing_to_warn_about() -> None:
    assert trust_warnings({"OTHER": "x"}) == []


def test_where_nothing_answers_for_openrouter_no_variable_is_set() -> None:
    env = agent_env({}, token="pf-t", base_url="http://127.0.0.1:1/api/v1", budget_file="/b", model_id="m")
    assert not env.keys() & set(TRUST_VARIABLES)
