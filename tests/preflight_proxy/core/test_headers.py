"""Only headers on a list pass, and never a key, a hop-by-hop header or a wait."""

from preflight_proxy.core.headers import (
    TO_DOWNSTREAM,
    TO_UPSTREAM,
    TO_UPSTREAM_MESSAGES,
    downstream_headers,
    upstream_headers,
)
from tests.support.cases import each

KEY = "sk-or-v1-real"


def sent(*headers: tuple[str, str], shape: str = "chat") -> dict[str, str]:
    out = upstream_headers(headers, KEY, shape)
    assert len({name.lower() for name, _ in out}) == len(out)
    return {name.lower(): value for name, value in out}


def test_the_clients_token_is_swapped_for_the_key() -> None:
    out = sent(("Authorization", "Bearer trial"), ("authorization", "Bearer other"), ("x-api-key", "trial"))
    assert out["authorization"] == f"Bearer {KEY}"
    assert "x-api-key" not in out


def test_the_answer_is_asked_for_unencoded() -> None:
    assert sent(("Accept-Encoding", "gzip, br, zstd"))["accept-encoding"] == "identity"


def test_a_body_without_a_type_is_sent_as_json() -> None:
    assert sent()["content-type"] == "application/json"
    assert sent(("content-type", "application/json; charset=utf-8"))["content-type"].endswith("utf-8")


@each(
    "name",
    [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Upgrade",
        "Expect",
        "TE",
        "Cookie",
        "X-Forwarded-For",
    ],
)
def test_hop_by_hop_and_unknown_headers_stay_here(name: str) -> None:
    assert name.lower() not in sent((name, "x"))


def test_no_list_has_a_header_that_ends_at_each_connection_or_that_the_proxy_sets() -> None:
    """Source of the names: RFC 9110, section 7.6.1."""
    ends = {
        "connection",
        "keep-alive",
        "proxy-connection",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
    }
    ours = {"transfer-encoding", "upgrade", "expect", "host", "content-length", "accept-encoding", "authorization"}
    assert not (TO_UPSTREAM_MESSAGES | TO_UPSTREAM | TO_DOWNSTREAM) & (ends | ours)


def test_what_connection_names_stays_here_too() -> None:
    out = sent(("Connection", "close, X-Title"), ("X-Title", "t"), ("User-Agent", "u"))
    assert "x-title" not in out
    assert out["user-agent"] == "u"


def test_a_value_with_a_line_end_does_not_pass() -> None:
    assert "x-title" not in sent(("X-Title", "a\r\nX-Evil: 1"))


def test_anthropics_headers_go_with_messages_only() -> None:
    assert "anthropic-version" not in sent(("anthropic-version", "2026-10-21"))
    assert sent(("anthropic-version", "2026-10-21"), shape="messages")["anthropic-version"] == "2026-10-21"


def test_betas_that_may_change_the_price_are_taken_out() -> None:
    asked = (
        "claude-code-20250219, interleaved-thinking-2025-05-14,context-1m-2025-08-07,fast-mode-2026-02-01,new-20990101,"
        "computer-use-2025-01-24,code-execution-2025-08-25"
    )
    out = sent(("anthropic-beta", asked), shape="messages")
    assert out["anthropic-beta"] == "claude-code-20250219,interleaved-thinking-2025-05-14,computer-use-2025-01-24"
    assert "x-anthropic-beta" not in sent(("X-Anthropic-Beta", "context-1m-2025-08-07"), shape="messages")


def test_an_answer_passes_down_without_waits_cookies_and_redirects() -> None:
    upstream = [
        ("Content-Type", "text/event-stream"),
        ("X-Generation-Id", "gen-1"),
        ("Retry-After", "3600"),
        ("Set-Cookie", "a=b"),
        ("Location", "http://elsewhere"),
        ("X-RateLimit-Reset", "1"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
    ]
    assert downstream_headers(upstream) == upstream[:2]
