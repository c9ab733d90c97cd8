"""The APIs of inference, by their paths under `/api/v1`."""

from openrouter_sim.calls.call import SimShape
from openrouter_sim.shapes.completions import SimChat, SimCompletions
from openrouter_sim.shapes.embeddings import SimEmbeddings
from openrouter_sim.shapes.messages import SimMessages
from openrouter_sim.shapes.responses import SimResponses

SHAPES: dict[str, SimShape] = {
    "/chat/completions": SimChat(),
    "/completions": SimCompletions(),
    "/responses": SimResponses(),
    "/messages": SimMessages(),
    "/embeddings": SimEmbeddings(),
}
"""Every inference path."""
