"""The control socket: how a runner opens, watches and ends accounts."""
