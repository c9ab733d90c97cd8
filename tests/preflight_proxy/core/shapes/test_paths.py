"""Known spellings of a path are served, and every other is answered with the right base URL."""

from __future__ import annotations

from itertools import product

from preflight_proxy.core.shapes import SHAPES
from preflight_proxy.core.shapes.paths import CALLS, COUNTS, PREFIXES, READS, dialect, read_path, wrong_path
from tests.preflight_proxy.core.refusals.test_refusals import RETRY_PATTERN
from tests.support.cases import each


@each("prefix, path, end", product(PREFIXES, SHAPES, ["", "/"]))
def test_each_spelling_leads_to_its_api(prefix: str, path: str, end: str) -> None:
    assert CALLS[f"{prefix}{path}{end}"] is SHAPES[path]


@each("prefix, end", product(PREFIXES, ["", "/"]))
def test_a_count_has_the_same_spellings_and_is_no_call(prefix: str, end: str) -> None:
    path = f"{prefix}/messages/count_tokens{end}"
    assert path in COUNTS
    assert path not in CALLS


def test_the_spellings_are_written_out() -> None:
    assert len(COUNTS) == len(PREFIXES) * 2
    assert len(CALLS) == len(PREFIXES) * len(SHAPES) * 2
    assert set(PREFIXES) >= {"/api/v1", "/api", "/v1", "/api/v1/v1", "", "/api/v1/", "/api//v1"}


@each("prefix, path, end", product(PREFIXES, [*READS, "/models/a/b:free/endpoints"], ["", "/"]))
def test_a_read_has_the_same_spellings(prefix: str, path: str, end: str) -> None:
    assert read_path(f"{prefix}{path}{end}") == path


@each(
    "path",
    [
        *(
            "/api/v2/key",
            "/api/v1///key",
            "/api/v1/key//",
            "/api/v1/Key",
            "/api/v1/%6bey",
            "/api/v1/key\n",
            "/api/v1/keys",
        ),
        *(
            "/api/v1/models/a/endpoints",
            "/api/v1/models/../keys/endpoints",
            "/api/v1/models/a/b/c/endpoints",
            "key",
            "",
        ),
        *("/api/v1/models/\u0661/b/endpoints", "/api/v1/chat/completions"),
    ],
)
def test_nothing_else_is_a_read(path: str) -> None:
    assert read_path(path) is None


@each(
    "path, name",
    [
        *(("/api/v1/messages", "messages"), ("/x/messages", "messages"), ("/api/v1/messages/count_tokens", "messages")),
        *(("/v1/chat/completions", "chat"), ("/x/chat/completions", None), ("/api/v1/mymessages", None)),
    ],
)
def test_the_path_tells_how_a_client_is_answered(path: str, name: str | None) -> None:
    shape = dialect(path)
    assert (shape.name if shape is not None else None) == name


def test_a_wrong_path_is_answered_with_the_right_base_url() -> None:
    status, text = wrong_path("/x/chat/completions", "http://127.0.0.1:8788")
    assert status == 404
    assert text == (
        "The budget proxy does not serve this path. The base URL of OpenAI's and OpenRouter's clients "
        "(OPENAI_BASE_URL, OPENROUTER_BASE_URL) is http://127.0.0.1:8788/api/v1. Nothing was sent."
    )
    status, text = wrong_path("/x/v1/messages", "https://openrouter.ai")
    assert status == 400
    assert text == (
        "The budget proxy does not serve this path. The base URL of Anthropic's clients (ANTHROPIC_BASE_URL) is "
        "https://openrouter.ai/api, without /v1. Nothing was sent."
    )


@each(
    "origin, shown",
    [
        *(("http://127.0.0.1:8788", True), ("http://[::1]:1", True), ("http://a.b-c", True), ("http://", False)),
        *(("http://127.0.0.1:42900", False), ("http://127.0.0.1:50312", False), ("http://a\x1b[2J", False)),
        *(("http://a b", False), ("http://a/b", False), ("http://a:123456", False), ("http://a\n", False)),
    ],
)
def test_a_host_is_repeated_only_if_it_is_one_and_makes_no_client_retry(origin: str, shown: bool) -> None:
    for path in ("/x/messages", "/x/chat/completions"):
        text = wrong_path(path, origin)[1]
        assert (origin + "/api" in text) is shown
        assert RETRY_PATTERN.search(text) is None
