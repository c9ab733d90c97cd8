"""Conversations as values: what an agent sends, in bytes and tokens, turn by turn.

The two large first requests are what real programs sent to a simulated OpenRouter for one sentence: Claude Code 2.1.197
(115,508 bytes) and Codex 0.169 (39,544 bytes). The turns are those of a session of reading, searching, editing and testing.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle, islice


@dataclass(frozen=True, slots=True)
class Turn:
    """One step of an agent.

    Attributes:
        reply_tokens: Tokens of the reply, with its tool call.
        arguments_bytes: The tool call's arguments.
        result_bytes: The result of the tool.
    """

    reply_tokens: int
    arguments_bytes: int
    result_bytes: int


@dataclass(frozen=True, slots=True)
class Session:
    """A kind of conversation. After its end it starts again with another task.

    Attributes:
        name: As the table shows it.
        system_bytes: The system text, the same in all of them.
        tools_bytes: The declaration of each tool.
        task_bytes: The first message, a different one in each.
        bound: The output bound; None for none.
        turns: The steps of one conversation.
        agents: How many run at the same time on one account.
    """

    name: str
    system_bytes: int
    tools_bytes: tuple[int, ...]
    task_bytes: int
    bound: int | None
    turns: tuple[Turn, ...]
    agents: int = 1


_COMMANDS = (
    Turn(110, 60, 350),
    Turn(160, 90, 1_450),
    Turn(95, 45, 120),
    Turn(210, 420, 80),
    Turn(140, 70, 900),
    Turn(180, 260, 640),
)
_WORK = (
    Turn(150, 70, 1_900),
    Turn(120, 90, 12_400),
    Turn(210, 110, 640),
    Turn(90, 80, 8_100),
    Turn(160, 130, 3_300),
    Turn(110, 75, 15_800),
    Turn(640, 1_900, 420),
    Turn(130, 85, 6_700),
    Turn(240, 100, 2_200),
    Turn(100, 90, 4_900),
    Turn(820, 2_600, 980),
    Turn(170, 95, 9_600),
)
_CLAUDE_CODE_TOOLS = (
    *(6_894, 12_096, 4_123, 445, 289, 1_739, 3_797, 2_546, 1_679, 2_680, 1_923, 3_797),
    *(1_206, 2_135, 2_855, 1_036, 1_201, 1_599, 558, 3_598, 1_891, 1_910, 21_341, 1_051),
)
_CODEX_TOOLS = (1_635, 819, 1_425, 391, 10_149, 297, 785, 2_196)


def _steps(pattern: tuple[Turn, ...], count: int) -> tuple[Turn, ...]:
    return tuple(islice(cycle(pattern), count))


SHORT = Session("short turns", 2_100, (), 5_800, None, _steps(_COMMANDS, 24))
"""A shell agent without declared tools and without a bound: 2,000 to 14,000 tokens."""
LONG = Session("growing to 100k", 26_581, _CLAUDE_CODE_TOOLS, 6_991, 32_000, _steps(_WORK, 42))
"""Claude Code's opening and bound, then 42 steps: 29,000 to 100,000 tokens."""
PARALLEL = Session("8 sub-agents", 20_350, _CODEX_TOOLS, 720, None, _steps(_WORK, 12), agents=8)
"""Codex's opening without a bound, eight times at once: 10,000 to 30,000 tokens each."""

SESSIONS = (SHORT, LONG, PARALLEL)
