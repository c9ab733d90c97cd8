"""Changes to running runs, and comparisons of ledgers with OpenRouter."""
