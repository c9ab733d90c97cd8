"""Numbers, token counts and errors: values that every other folder uses."""
