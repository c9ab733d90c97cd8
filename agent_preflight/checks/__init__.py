"""The checks before a run, one module a subject. A check returns its lines of the report."""
