"""The share of letters that a trial filed into the right tray, as JSON on the last line.

What the agent wrote is data: it is read as JSON within a size, and nothing of it is imported or executed. The right trays are
here and not on the agents' desk, where a model could read them.
"""

import json
import os
import sys
from pathlib import Path

TRAYS = {
    "L01": "billing", "L02": "fault", "L03": "praise", "L04": "leaving", "L05": "billing", "L06": "fault",
    "L07": "fault", "L08": "leaving", "L09": "praise", "L10": "billing", "L11": "fault", "L12": "billing",
    "L13": "leaving", "L14": "praise", "L15": "fault", "L16": "billing",
}  # fmt: skip
BYTES_MAX = 100_000


def filed(output: Path) -> dict[str, object]:
    """The tray of each letter as the agent wrote it; nothing if it wrote nothing."""
    try:
        with (output / "trays.json").open("rb") as file:
            written = json.loads(file.read(BYTES_MAX))
    except FileNotFoundError:
        return {}
    return written if isinstance(written, dict) else {}


def main() -> None:
    trays = filed(Path(os.environ["PREFLIGHT_OUTPUT"]))
    right = sum(trays.get(letter) == tray for letter, tray in TRAYS.items())
    print(f"{right} of {len(TRAYS)} letters are in the right tray, {len(trays)} were filed", file=sys.stderr)
    print(json.dumps({"score": right / len(TRAYS), "right": right, "filed": len(trays)}))


if __name__ == "__main__":
    main()
