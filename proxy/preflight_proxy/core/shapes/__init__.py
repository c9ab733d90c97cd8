"""The API shapes by path. A new shape is a file here and a line in this table."""

from collections.abc import Mapping

from preflight_proxy.core.shapes.chat import Chat
from preflight_proxy.core.shapes.completions import Completions
from preflight_proxy.core.shapes.embeddings import Embeddings
from preflight_proxy.core.shapes.messages import Messages
from preflight_proxy.core.shapes.reading import Shape
from preflight_proxy.core.shapes.responses import Responses

_ALL: tuple[Shape, ...] = (Chat(), Responses(), Messages(), Completions(), Embeddings())

SHAPES: Mapping[str, Shape] = {shape.path: shape for shape in _ALL}
"""Path below the API base to shape."""
