"""The game: a tournament in the repeated prisoner's dilemma. A bot is a file with `def move(mine, theirs)`.

`mine` and `theirs` are the moves so far, as strings of C (cooperate) and D (defect); it returns C or D. Run as a program it plays
a bot against all opponents and prints one JSON object: `python game.py bot.py`.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

ROUNDS = 50
POINTS = {"CC": (3, 3), "CD": (0, 5), "DC": (5, 0), "DD": (1, 1)}

Bot = Callable[[str, str], str]

OPPONENTS: dict[str, Bot] = {
    "dove": lambda mine, theirs: "C",
    "hawk": lambda mine, theirs: "D",
    "mirror": lambda mine, theirs: theirs[-1:] or "C",
    "grudger": lambda mine, theirs: "D" if "D" in theirs else "C",
    "prober": lambda mine, theirs: "DCC"[len(mine)] if len(mine) < 3 else ("D" if "D" not in theirs else theirs[-1]),
}


def play(bot: Bot, opponent: Bot) -> tuple[int, int]:
    """Points of both after all rounds; a move that is none counts as C."""
    mine, theirs, points, against = "", "", 0, 0
    for _ in range(ROUNDS):
        ours, others = bot(mine, theirs), opponent(theirs, mine)
        ours = ours if ours in ("C", "D") else "C"
        won, lost = POINTS[ours + others]
        mine, theirs, points, against = mine + ours, theirs + others, points + won, against + lost
    return points, against


def tournament(bot: Bot) -> dict:
    """The bot's points against each opponent, and their sum."""
    points = {name: play(bot, opponent)[0] for name, opponent in OPPONENTS.items()}
    return {"score": sum(points.values()), "points": points}


def load(path: Path) -> Bot:
    """The bot of a file, which is run: do so only where its author may run programs."""
    names: dict = {}
    exec(compile(path.read_text(), str(path), "exec"), names)
    return names["move"]


if __name__ == "__main__":
    try:
        result = tournament(load(Path(sys.argv[1])))
    except Exception as error:
        result = {"score": 0, "error": f"{type(error).__name__}: {error}"}
    print(json.dumps(result))
