"""What an agent says of its own end: that it is done, that it goes on after all, that its last message is an error. Pure.

pi says `agent_end` before an automatic retry too, and before a compaction that ends in one: `auto_retry_start`, an `agent_start`
or `compaction_start` for an overflow then follow at once; later versions say `willRetry` in the `agent_end` itself.
Source: packages/coding-agent/docs/json.md, packages/coding-agent/docs/rpc.md of github.com/badlogic/pi-mono, 0.73.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ERROR_CHARS_MAX = 500


class AgentEnd:
    """Follows one agent's events.

    Attributes:
        said: Whether it has said that it is done, and not since that it goes on.
        error: The error that its last message was, in words and without line breaks; empty if it was none.
    """

    def __init__(self) -> None:
        self.said = False
        self.error = ""
        self._put_off = False

    def take(self, event: Mapping[str, Any]) -> bool:
        """Take an event; returns whether `said` has changed by it. Never raises."""
        before, ended = self.said, self.said or self._put_off
        self._take_error(event)
        match event:
            case {"type": "agent_end", "willRetry": True}:
                self.said, self._put_off = False, True
            case {"type": "agent_end"}:
                self.said, self._put_off = True, False
            case {"type": "agent_start"}:
                self.said, self._put_off = False, False
            case (
                {"type": "auto_retry_start"}
                | {"type": "compaction_start", "reason": "overflow"}
                | {"type": "compaction_end", "willRetry": True}
            ):
                self.said, self._put_off = False, ended
            case {"type": "auto_retry_end", "success": False} | {"type": "compaction_end"}:
                self.said, self._put_off = ended, False
        return self.said != before

    def _take_error(self, event: Mapping[str, Any]) -> None:
        match event:
            case {"type": "agent_end", "messages": list(messages)}:
                said = [each for each in messages if isinstance(each, Mapping) and each.get("role") == "assistant"]
            case {"type": "message_end", "message": {"role": "assistant"} as message}:
                said = [message]
            case _:
                return
        if said:
            self.error = _error_of(said[-1])


def _error_of(message: Mapping[str, Any]) -> str:
    stop, text = message.get("stopReason"), message.get("errorMessage")
    if stop not in ("error", "aborted"):
        return ""
    told = " ".join(text[: 2 * ERROR_CHARS_MAX].split()) if isinstance(text, str) else ""
    return f"the agent's last message is an error: {told or stop}"[:ERROR_CHARS_MAX]
