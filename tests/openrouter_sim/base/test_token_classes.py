"""Counts by classes of text are near those of the tokenizers that they stand for."""

from __future__ import annotations

from openrouter_sim.base.token_classes import WEIGHTS, estimate
from tests.support.cases import each

PROSE = (
    "The proxy reserves the worst case of a call before it leaves, so parallel calls cannot pass the limit together. "
)
CODE = "    if found is None or len(found) != expected_count:\n        raise ValueError(f'{name}: {found!r}')\n"
DIGITS = "1,204,775 38,112 9,440\n"
RARE = "xqzk vbnm tghf wrtz "
GERMAN = "Größere Änderungen müssen überprüft werden, bevor sie veröffentlicht werden können. "
RUSSIAN = "Большие изменения должны быть проверены до публикации. "
CHINESE = "较大的更改必须在发布之前进行检查。"
MARKS = "!%&/()=?{[]}\\+*~#'-_.:,;<>|^"


@each(
    "text, low, high",
    [
        (PROSE, 0.18, 0.26),
        (CODE, 0.25, 0.40),
        (DIGITS, 0.45, 0.75),
        (RARE, 0.6, 1.1),
        (GERMAN, 0.25, 0.45),
        (RUSSIAN, 0.2, 0.4),
        (CHINESE, 0.25, 0.5),
    ],
)
def test_an_old_claude_counts_a_text_within_its_usual_tokens_a_byte(text: str, low: float, high: float) -> None:
    assert low < estimate(text * 20, "Claude") / len((text * 20).encode()) < high


@each("text", [PROSE, CODE, GERMAN, RARE])
def test_a_new_claude_counts_more_and_other_families_fewer(text: str) -> None:
    claude = estimate(text * 20, "Claude")
    assert estimate(text * 20, "Claude 4.7") > 1.05 * claude
    assert all(estimate(text * 20, name) < claude for name in WEIGHTS if not name.startswith("Claude"))


@each("family", [*WEIGHTS, "", "Gemini"])
def test_a_text_has_at_least_no_tokens_and_at_most_four_times_its_bytes(family: str) -> None:
    texts = ["", " ", "a", "Z", "7", "\t\n", "\x00\x7f\x85", MARKS, "é", "🎉", "\ud800", "ѣ", "ก", "ش", "→"]
    for text in texts:
        assert 0 <= estimate(text, family) <= 4 * len(text.encode("utf-8", "surrogatepass"))
    joined = "".join(texts)
    assert abs(estimate(joined * 50, family) - 50 * estimate(joined, family)) <= 50


def test_an_unknown_family_is_counted_like_another_one() -> None:
    assert estimate(PROSE, "Gemini") == estimate(PROSE, "Mistral")
