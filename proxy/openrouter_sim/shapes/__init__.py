"""The API shapes, by the path under `/api/v1` that speaks each."""

from openrouter_sim.call import Shape
from openrouter_sim.shapes.chat import CHAT

SHAPES: dict[str, Shape] = {"/chat/completions": CHAT}
"""Every inference path."""
