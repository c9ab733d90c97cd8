"""Scores a trial after its end: reads what a function or a command says came out of it.

The output is the agent's: nothing here imports or executes it. A command that does so belongs into a container (`score_image`).
"""
