"""HTTP listeners with limits on connections, heads and bodies."""
