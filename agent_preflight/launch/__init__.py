"""Starts runs from the command line: options, view, demo, resume."""
