"""Follows the spend of one OpenRouter key, and makes the text of budget.txt from it.

A run does not need this: its proxy knows the cost of each call and writes budget.txt itself, in the same words.
`BudgetTracker` is for scripts that hold a key of their own.
"""

import io
import logging
import math
import tarfile
import time
from collections import deque
from collections.abc import Callable

from agent_preflight.base.usd import Dollars, float_usd, pusd
from agent_preflight.models import BudgetStatus
from agent_preflight.openrouter.patch_points import replacement
from preflight_proxy.core.budget_text import RECENT_ACTIONS, UNLABELLED, Action, detailed_text, simple_text

__all__ = ["BudgetStatus", "BudgetTracker"]

ACTION_PUSD_MIN = pusd("0.0001")
"""A smaller rise of the usage is no action of its own. It is added to the next one."""

logger = logging.getLogger(__name__)


class BudgetTracker:
    """Follows the spend of one key against a limit.

    The arguments are kept as attributes of the same names. OpenRouter reports a key's spend with a delay, so the limit is
    soft: calls that are not reported yet may pass it.

    Args:
        api_key: The key whose usage is read.
        limit_usd: Dollars granted, such as `0.25` or `"$2"`. The attribute is a float.
        poll_interval_s: Seconds between two reads of the usage, unless a read is forced.
        mode: `"detailed"` for the long form of budget.txt; any other text means the simple form.
        on_exceeded: Called once, without arguments, when the usage reaches the limit. What it raises leaves `poll`.
        clock: A monotonic clock, in seconds.

    Raises:
        ConfigError: `limit_usd` is a text or a Decimal that is no amount of dollars.
    """

    def __init__(
        self,
        api_key: str,
        limit_usd: Dollars,
        poll_interval_s: float = 30.0,
        mode: str = "simple",
        on_exceeded: Callable[[], None] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.api_key = api_key
        self.limit_usd = float_usd(limit_usd, "limit_usd")
        self.poll_interval_s = poll_interval_s
        self.mode = mode
        self.on_exceeded = on_exceeded
        self._clock = clock
        self._polled_at: float | None = None
        self._used_usd = 0.0
        self._acted_pusd = 0
        self._actions: deque[Action] = deque(maxlen=RECENT_ACTIONS)
        self._actions_count = 0
        self._running_tool: str | None = None
        self._fired = False

    @property
    def exceeded(self) -> bool:
        """Whether the last known usage reaches the limit. Reads nothing."""
        return self._status().exceeded

    def poll(self, force: bool = False) -> BudgetStatus:
        """Return the budget. Reads the usage first if `poll_interval_s` has passed since the last attempt, or if forced.

        The usage never falls: a figure that cannot be read, or is lower than the last one, leaves the last one in place.
        `agent_preflight.get_usage` is called for it, also if a script has replaced it.

        Args:
            force: Read the usage, whatever the interval says.

        Returns:
            Dollars used and granted.
        """
        now = self._clock()
        if force or self._polled_at is None or now - self._polled_at >= self.poll_interval_s:
            self._polled_at = now
            self._take(self._ask())
        return self._status()

    def on_tool_start(self, tool_name: str) -> None:
        """Name the tool that runs. Spend that is read from then on carries its name in the detailed text.

        Args:
            tool_name: The tool's name.
        """
        self._running_tool = tool_name

    def on_tool_end(self, tool_name: str) -> None:
        """Note that no tool runs. Spend that is read from then on is labelled `thinking`.

        Args:
            tool_name: The tool's name; it is not compared with the one that was started.
        """
        self._running_tool = None

    def status_message(self, force_poll: bool = False) -> str:
        """Return the text of budget.txt in the form that `mode` says, without its last newline.

        Args:
            force_poll: Read the usage first, whatever the interval says.
        """
        used, limit = pusd(self.poll(force=force_poll).used), pusd(self.limit_usd)
        if self.mode != "detailed":
            return simple_text(used, limit).rstrip("\n")
        return detailed_text(used, limit, list(self._actions), self._actions_count).rstrip("\n")

    def inject_to_docker(
        self, container_name: str, workspace_path: str = "/workspace/output", timeout_s: float = 5.0
    ) -> BudgetStatus:
        """Write budget.txt into a running container. A failure of Docker is logged, not raised.

        Args:
            container_name: The container's name or id.
            workspace_path: The folder in the container that gets the file. It must exist.
            timeout_s: Seconds that Docker may take.

        Returns:
            The budget, as `poll` returns it.
        """
        from agent_preflight.engine.client import on_engine  # brings the HTTP library, which a tracker does not need
        from agent_preflight.engine.failure import DockerError

        status, archive = self.poll(), _archive(self.status_message() + "\n")
        try:
            on_engine(lambda engine: engine.put(container_name, workspace_path, archive, timeout_s))
        except DockerError as exc:
            logger.warning("budget.txt was not written into %s: %s", container_name, exc)
        return status

    def _status(self) -> BudgetStatus:
        return BudgetStatus(used=self._used_usd, limit=self.limit_usd)

    def _ask(self) -> float | None:
        from agent_preflight import provision  # brings the HTTP library, which a tracker that never asks does not need

        return (replacement(provision.get_usage) or provision.get_usage)(self.api_key)

    def _take(self, used_usd: float | None) -> None:
        if used_usd is None or not math.isfinite(used_usd) or used_usd < self._used_usd:
            return
        self._used_usd = float(used_usd)
        rise_pusd = pusd(used_usd) - self._acted_pusd
        if rise_pusd > ACTION_PUSD_MIN:
            self._acted_pusd += rise_pusd
            self._actions.append(Action(self._running_tool or UNLABELLED, rise_pusd))
            self._actions_count += 1
        if self.exceeded and self.on_exceeded is not None and not self._fired:
            self._fired = True
            self.on_exceeded()


def _archive(text: str) -> bytes:
    """Return a tar archive of `budget.txt` with this text."""
    out, content = io.BytesIO(), text.encode()
    entry = tarfile.TarInfo("budget.txt")
    entry.size = len(content)
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()
