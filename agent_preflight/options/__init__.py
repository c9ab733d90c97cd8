"""The options of a run: each is declared once, and read from Python, a file or the command line."""
