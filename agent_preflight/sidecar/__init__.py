"""The proxy as the runner keeps it: started, watched, started again when it dies, stopped at the end."""

from agent_preflight.sidecar.child import SidecarError, own_process, until_ready
from agent_preflight.sidecar.keeper import CONTROL_SOCKET, STOP_S_MAX, Sidecar, SidecarSettings

__all__ = ["CONTROL_SOCKET", "STOP_S_MAX", "Sidecar", "SidecarError", "SidecarSettings", "own_process", "until_ready"]
