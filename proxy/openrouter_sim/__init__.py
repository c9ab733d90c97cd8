"""An offline OpenRouter, for demos and tests."""
