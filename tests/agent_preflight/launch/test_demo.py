"""The demo: its books, its simulator, and what Ctrl-C does to it. The whole of it runs in CI by `make demo`."""

import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from agent_preflight.launch.demo import AGENTS, billed_usd, simulator


def test_the_bill_is_summed_as_the_ledger_must_read_it() -> None:
    generations = [{"cost_usd": "0.1000000000005"}, {"cost_usd": "0.000000000002"}]
    bill = {"keys": {"h": {"generations": generations}, "other": {"generations": []}}}
    assert billed_usd(bill) == Decimal("0.100000000002")


@pytest.mark.wire
async def test_the_simulator_is_a_process_that_lasts_as_long_as_it_is_needed() -> None:
    async with simulator() as simulated, httpx.AsyncClient(trust_env=False) as client:
        bill = (await client.get(simulated.bill_url)).json()
        assert billed_usd(bill) == 0
    async with httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError):
            await client.get(simulated.bill_url)


@pytest.mark.wire
@pytest.mark.usefixtures("usual_signals")
def test_ctrl_c_ends_every_trial_in_order_and_exits_with_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agent_preflight", "demo", "--sandbox", "process", "--runs-dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        started = 0
        for line in demo.stdout:
            started += "started" in line
            if started == len(AGENTS):
                break
        os.kill(demo.pid, signal.SIGINT)
        demo.stdout.read()
        assert demo.wait(60) == 130
    (run,) = tmp_path.iterdir()
    summaries = [json.loads(path.read_text()) for path in run.glob("*/summary.json")]
    assert len(summaries) == len(AGENTS)
    assert all(set(summary["preflight"]["cleanup"].values()) == {"ok"} for summary in summaries)
    assert all(summary["preflight"]["pending_usd"] == "0" for summary in summaries)
