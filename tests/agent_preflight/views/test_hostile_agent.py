"""A real run of agents that attack who looks at it: in the report and in the live pages all that they wrote is text."""

import json
from pathlib import Path

import pytest

from tests.support.browser import Browser, Page
from tests.support.cli_commands import invoke
from tests.support.hostile import HOSTILE
from tests.support.trial_field import Field
from tests.support.ui_thread import ui_thread

pytestmark = pytest.mark.wire

TEXTS = [text for text in HOSTILE if "\0" not in text and len(text) < 1000]
ATTACK = f"""
for text in {TEXTS!r}:
    say("tool_execution_start", toolName=text)
    call(text="hello", user=text)
    call(model=text)
    say(text, text=text, message=text, content=text, error=text)
    print(text, flush=True)
    print(text, file=sys.stderr, flush=True)
    open("score.txt", "a").write(text + "\\n")
    open(f"output {{len(text)}} <b>.txt", "w").write(text)
open("score.txt", "a").write({HOSTILE[1]!r})
say("agent_end", messages=[{{"role": "assistant", "stopReason": "error", "errorMessage": {HOSTILE[1]!r}}}])
"""


def judge(page: Page, origin: str) -> None:
    """Fail if anything ran, was refused by the policy, or left for another place."""
    assert page.evaluate("typeof window.hacked") == "undefined"
    assert page.said == []
    assert [request for request in page.requests if not request.startswith(origin)] == []
    assert (
        page.evaluate(
            "document.querySelectorAll('script:not([src]), img, iframe, object, form, [onerror], [onload]').length"
        )
        == 0
    )
    assert page.evaluate("[...document.links].filter(link => link.protocol === 'javascript:').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.fixture
def run_dir(trials: Field) -> Path:
    """The finished run."""
    trials.run(
        {"plain": "call()\nopen('score.txt', 'w').write('1')", "hostile": ATTACK},
        run_id="run-hostile",
        score='cat "$PREFLIGHT_OUTPUT/score.txt"',
        tags={"task": HOSTILE[0][:200], "note": HOSTILE[5][:200]},
    )
    return trials.run_dirs[-1]


def test_nothing_that_an_agent_wrote_runs_or_is_fetched(run_dir: Path, browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    assert invoke("report", run_dir.name, "--runs-dir", str(run_dir.parent), "-o", str(path)).exit_code == 0
    for width, dark in ((1400, False), (400, True)):
        page = browser.open(path.as_uri(), width=width, dark=dark)
        judge(page, path.as_uri())
        assert HOSTILE[0] in page.text()
        assert f"the agent's last message is an error: {HOSTILE[1]}" in page.text()
    events = [json.loads(line) for line in (run_dir / "hostile" / "events.jsonl").read_text().splitlines()]
    assert {event.get("toolName") for event in events} >= set(TEXTS), "the attack took place"
    with ui_thread(run_dir.parent) as ui:
        places = ("/", "/run/run-hostile", "/run/run-hostile/trial/hostile", "/run/run-hostile/calls")
        for place in places:
            page = browser.open(ui.url(place))
            page.until("document.getElementById('connection') !== null")
            judge(page, ui.url(""))
        assert HOSTILE[1] in browser.open(ui.url(places[2])).text()
