"""Checks, by subject."""
