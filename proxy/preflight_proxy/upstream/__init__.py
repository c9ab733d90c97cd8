"""Requests to OpenRouter: calls, prices, and records of what calls cost."""
