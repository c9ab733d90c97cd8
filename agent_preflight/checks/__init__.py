"""What preflight checks, one module a subject; each check returns the lines of its part of the report."""
