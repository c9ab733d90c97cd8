"""The API shapes, by the path under `/api/v1` that speaks each."""

from openrouter_sim.calls.call import SimShape
from openrouter_sim.shapes.chat import CHAT
from openrouter_sim.shapes.completions import COMPLETIONS
from openrouter_sim.shapes.embeddings import EMBEDDINGS
from openrouter_sim.shapes.messages import MESSAGES
from openrouter_sim.shapes.responses import RESPONSES

SHAPES: dict[str, SimShape] = {
    "/chat/completions": CHAT,
    "/completions": COMPLETIONS,
    "/responses": RESPONSES,
    "/messages": MESSAGES,
    "/embeddings": EMBEDDINGS,
}
"""Every inference path."""
