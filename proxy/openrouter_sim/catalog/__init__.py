"""The models on offer, and which endpoint serves a request."""
