"""Reads a score from what a function returned, or from the last line that a command printed. Pure.

A score that cannot be read is null with its reason, never 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from numbers import Real

from msgspec.structs import replace

from agent_preflight.runs.record import Score
from preflight_proxy.core.terminal import plain

SCORE_LINE_BYTES_MAX = 2**20
"""The last line may be as long as this; what was printed before it is not kept."""
DETAILS_CHARS_MAX = 64 * 1024
"""Every view of a run reads the details of each trial."""
DETAILS_DEPTH_MAX = 100
"""Deeper ones could be more than what writes or reads the summary can take."""
REASON_CHARS_MAX = 500
SHOWN_LINE_CHARS = 120
NO_LINE = "it printed nothing"


def unscored(reason: str) -> Score:
    """Return that there is no score. The reason becomes one line, safe for a terminal."""
    return Score(None, reason=" ".join(plain(reason[: 4 * REASON_CHARS_MAX]).split())[:REASON_CHARS_MAX])


def score_of(value: object, score_pass: float) -> Score:
    """Return the score that a function returned, or that a line said.

    Args:
        value: A number, a bool, or a mapping whose `score` is one of these. Its `success`, if there, is a bool.
        score_pass: The least number that is a success, unless the mapping says whether it is one.
    """
    if not isinstance(value, Mapping):
        return _graded(value, None, score_pass)
    if "score" not in value:
        return unscored("the mapping has no `score`")
    success = value.get("success")
    if success is not None and not isinstance(success, bool):
        return unscored(f"`success` is {_shown(success)}, not true or false")
    graded = _graded(value["score"], success, score_pass)
    rest = {str(key): each for key, each in value.items() if key not in ("score", "success")}
    if graded.value is None or not rest:
        return graded
    try:
        text = json.dumps(rest, allow_nan=False)
        if len(text) > DETAILS_CHARS_MAX:
            raise ValueError(f"they are longer than {DETAILS_CHARS_MAX} characters")
        if _depth(kept := json.loads(text)) > DETAILS_DEPTH_MAX:
            raise ValueError(f"they are nested deeper than {DETAILS_DEPTH_MAX} levels")
    except (TypeError, ValueError, RecursionError) as exc:
        return replace(graded, reason=unscored(f"the details are left out: {exc}").reason)
    return replace(graded, details=kept)


def _depth(value: object) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, parts), default=0)


def _graded(value: object, success: bool | None, score_pass: float) -> Score:
    if not isinstance(value, Real | Decimal):  # a bool is a number too
        return unscored(f"the score is {_shown(value)}, not a number, true or false")
    try:
        number = float(value)
    except (ValueError, ArithmeticError):
        number = math.inf
    if not math.isfinite(number):
        return unscored("the score is not finite")
    if success is None:
        success = value if isinstance(value, bool) else number >= score_pass
    return Score(number, success, "bool" if isinstance(value, bool) else "number")


def _shown(value: object) -> str:
    """Return a value for a person; of one that is no plain value, its type, because its text is code of someone else."""
    if value is None or isinstance(value, str | bool | int | float):
        return repr(value)[:SHOWN_LINE_CHARS]
    return f"of the type {type(value).__name__}"


def score_of_output(end: bytes, score_pass: float) -> Score:
    """Return the score that a command printed.

    Args:
        end: The end of its standard output: one byte more than a line may have, or all.
        score_pass: As for `score_of`.
    """
    lines = end.rstrip().splitlines()
    if not lines:
        return unscored(NO_LINE)
    if len(lines) == 1 and len(end) > SCORE_LINE_BYTES_MAX:
        return unscored(f"its last line is longer than {SCORE_LINE_BYTES_MAX} bytes, or it ended in as many blanks")
    line = lines[-1].decode("utf-8", "replace")
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return unscored(f"its last line is no number and no JSON: {line.strip()[:SHOWN_LINE_CHARS]!r}")
    return score_of(value, score_pass)
