"""What prompt caching did for a call."""
