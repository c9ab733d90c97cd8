"""The proxy: it keeps each account within its limit.

Folders import in one direction: control -> calls, gates -> evidence, ledger, upstream, server -> base -> core.
"""
