"""The options of a run: each is declared once, and is read from scripts, a file or the command line."""
