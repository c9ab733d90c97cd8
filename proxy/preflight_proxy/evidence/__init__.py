"""Settles calls whose answer did not say what they cost."""
