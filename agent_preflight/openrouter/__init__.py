"""OpenRouter's management API: keys, credits, models."""
