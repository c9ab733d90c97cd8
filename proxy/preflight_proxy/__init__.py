"""The sidecar: a reverse proxy that keeps each account within its limit.

__main__ -> app -> {plane, control, reconcile} -> {forward, local, accounts} -> {call, relay, settlement}
         -> {books, upstream, prices, gate_listener} -> {store, derived} -> core
"""

__version__ = "0.1.0"
