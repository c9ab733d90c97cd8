"""Starts a run's proxy, restarts it when it dies, and talks to it over its control socket."""

from agent_preflight.sidecar.child import SidecarError, own_process, until_ready
from agent_preflight.sidecar.keeper import CONTROL_SOCKET, STOP_S_MAX, Sidecar

__all__ = ["CONTROL_SOCKET", "STOP_S_MAX", "Sidecar", "SidecarError", "own_process", "until_ready"]
