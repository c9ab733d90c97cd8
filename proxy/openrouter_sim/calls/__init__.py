"""One inference call: what it asks, what is answered, what it costs."""
