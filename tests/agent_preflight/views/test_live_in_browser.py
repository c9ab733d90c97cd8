"""The pages of `ui` in a real browser: they change while one looks, and nothing that an agent wrote is more than text."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent_preflight.views.live_pages import View
from preflight_proxy.core.ledger.commands import Post
from preflight_proxy.core.ledger.rows import CallFacts
from tests.support.browser import Browser
from tests.support.hostile import HOSTILE
from tests.support.ledger_on_disk import call, open_store, reserve
from tests.support.run_on_disk import EVENTS, alive, begin, finish, keep_ledger, plan
from tests.support.ui_thread import UiThread, ui_thread

pytestmark = pytest.mark.wire

PAGES = ("/", "/run/run-a", "/run/run-a/trial/nano", "/run/run-a/trial/mini", "/run/run-a/calls")


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[UiThread]:
    """A server with one run that is going on, of a trial that runs and one that has ended."""
    run = plan(tmp_path / "runs" / "run-a", "nano", "mini")
    keep_ledger(run, "nano", "mini")
    begin(run, "nano", *EVENTS)
    finish(run, "mini")
    with alive(run), ui_thread(tmp_path / "runs") as made:
        yield made


def post(ui: UiThread, name: str, cost_pusd: int) -> None:
    """Post one call of nano."""
    store = open_store(ui.runs / "run-a")
    call(store, name, cost_pusd, "nano")
    store.close()


def test_a_page_changes_while_one_looks_and_keeps_what_one_does(ui: UiThread, browser: Browser) -> None:
    """Focus, selection, scrolling, and the very elements stay; only what differs is changed."""
    page = browser.open(ui.url("/run/run-a/calls"), height=200)
    page.until("document.getElementById('connection').textContent === 'live'")
    version = page.evaluate("document.querySelector('script').dataset.version")
    assert page.requests[-1].endswith(f"/calls/live?page=1&since={version}"), "what the page has is not sent again"
    page.evaluate("document.querySelector('#calls h1').mark = 'kept'")
    page.evaluate("document.querySelector('.links a').focus()")
    page.evaluate("getSelection().selectAllChildren(document.getElementById('call-nano-1').cells[2])")
    page.evaluate("window.scrollTo(0, 40)")
    rows = len(page.texts("tbody tr"))
    post(ui, "another", 123_400_000_000)
    page.until(f"document.querySelectorAll('tbody tr').length === {rows + 1}")
    assert page.texts("tbody tr")[0].startswith("3")
    assert page.evaluate("document.querySelector('#calls h1').mark") == "kept"
    assert page.evaluate("document.activeElement === document.querySelector('.links a')")
    assert page.evaluate("getSelection().toString().trim()").startswith("nano")
    assert page.evaluate("window.scrollY") == 40
    assert page.said == []


def test_a_page_connects_again_after_its_server_was_away(ui: UiThread, browser: Browser) -> None:
    page = browser.open(ui.url("/run/run-a/trial/nano"))
    page.until("document.getElementById('connection').textContent === 'live'")
    ui.end()
    page.until("document.getElementById('connection').textContent.startsWith('no connection')")
    post(ui, "meanwhile", 50_000_000_000)
    ui.begin(ui.server.secret)
    page.until("document.getElementById('connection').textContent === 'live'")
    page.until("document.getElementById('trial').textContent.includes('$0.06')")


def test_a_page_says_that_its_address_is_of_an_earlier_start(ui: UiThread, browser: Browser) -> None:
    page = browser.open(ui.url("/run/run-a"))
    page.until("document.getElementById('connection').textContent === 'live'")
    ui.end()
    ui.begin()
    page.until("document.getElementById('connection').textContent.includes('was started again')")


def test_a_page_that_nobody_looks_at_keeps_no_connection(ui: UiThread, browser: Browser) -> None:
    """A browser has six connections to a server: a seventh tab would not load."""
    page = browser.open(ui.url("/run/run-a"))
    page.until("document.getElementById('connection').textContent === 'live'")
    for hidden, viewers in (("true", 0), ("false", 1)):
        page.evaluate(
            f"Object.defineProperty(document, 'hidden', {{value: {hidden}, configurable: true}}); "
            "document.dispatchEvent(new Event('visibilitychange'))"
        )
        while ui.server.viewers != viewers:
            page.evaluate("new Promise(done => setTimeout(done, 20))")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<p>a</p>", "<p>b</p>"),
        ("<p class=x title=y>a</p>", "<p class=z>a</p>"),
        ("a<b>c</b>d", "<b>e</b>f<i>g</i>"),
        ("<ul><li id=p1>1<li id=p2>2<li id=p3>3</ul>", "<ul><li id=p0>0<li id=p1>1<li id=p2>2</ul>"),
        ("<ul><li id=p1>1<li id=p2>2<li id=p3>3</ul>", "<ul><li id=p3>3<li id=p1>1<li id=p2>x</ul>"),
        ("<ul><li>1<li id=p2>2</ul>", "<ul><li id=p2>2<li>3<li>4</ul>"),
        ("<svg><g><circle r=1 /></g></svg>", "<svg viewBox='0 0 1 1'><g><circle r=2 /><path d='M0,0'/></g></svg>"),
        ("<table><tbody><tr><td>1</table>", "<table><tbody><tr><td>2<td>3<tr><td>4</table>"),
        ("", "<p>a</p>"),
        ("<p>a</p>", ""),
    ],
)
def test_a_changed_part_ends_as_the_server_has_it(ui: UiThread, browser: Browser, before: str, after: str) -> None:
    page = browser.open(ui.url("/"))
    script = f"""(() => {{
        const [here, next] = [{json.dumps(before)}, {json.dumps(after)}].map(html => {{
            const made = document.createElement("template");
            made.innerHTML = html;
            return made.content;
        }});
        const wanted = document.createElement("div");
        wanted.append(next.cloneNode(true));
        const section = document.createElement("section");
        section.append(here);
        patch(section, next);
        return [section.innerHTML, wanted.innerHTML];
    }})()"""
    got, wanted = page.evaluate(script)
    assert got == wanted


def test_what_is_folded_open_stays_open(ui: UiThread, browser: Browser) -> None:
    page = browser.open(ui.url("/"))
    open_after = page.evaluate("""(() => {
        const section = document.createElement("section");
        section.innerHTML = "<details><summary>a</summary>1</details><details open><summary>b</summary>1</details>";
        const next = document.createElement("template");
        next.innerHTML = "<details><summary>a</summary>2</details><details open><summary>b</summary>2</details>";
        section.children[0].open = true;
        section.children[1].open = false;
        patch(section, next.content);
        return [section.textContent, section.children[0].open, section.children[1].open];
    })()""")
    assert open_after == ["a2b2", True, False]


def test_what_stays_keeps_its_focus_when_something_before_it_goes(ui: UiThread, browser: Browser) -> None:
    """An element that is moved loses the focus, so only what must be is moved."""
    page = browser.open(ui.url("/"))
    focus = page.evaluate("""(() => {
        const section = document.createElement("section");
        section.innerHTML = "<p id=p1>1</p><p id=p2><button>2</button></p><p id=p3>3</p>";
        document.body.append(section);
        section.querySelector("button").focus();
        const next = document.createElement("template");
        next.innerHTML = "<p id=p0>0</p><p id=p2><button>2</button></p><p id=p3>x</p><p id=p4>4</p>";
        patch(section, next.content);
        return [document.activeElement.textContent, section.textContent];
    })()""")
    assert focus == ["2", "02x4"]


def write_hostile_texts(run: Path) -> None:
    """Put the texts wherever one can come from: plan, ledger, events, tools, summary and notices."""
    document = json.loads((run / "plan.json").read_text())
    document["trials"][0]["model_id"] = document["trials"][1]["base"] = "".join(HOSTILE)
    document["tags"] = dict.fromkeys(("task", *HOSTILE), "".join(HOSTILE))
    (run / "plan.json").write_text(json.dumps(document))
    store = open_store(run)
    for number, text in enumerate(HOSTILE):
        store.commit(reserve(f"hostile {number}", 10, "nano"))
        facts = CallFacts(text, text, text, text, 1, conversation=text, cache_miss=text)
        store.commit(Post(f"hostile {number}", 10, facts))
    store.close()
    with (run / "nano" / "events.jsonl").open("a") as file:
        for text in ("\ud800", *reversed(HOSTILE)):  # the long one first, so that the others are among the newest
            for event in ({"type": text, text: text}, {"type": "raw", "data": text}, {"type": "x", "source": text}):
                file.write(json.dumps({"timestamp": text, **event}) + "\n")
            tool = {"type": "tool_execution_start", "toolName": text}
            file.write(json.dumps({"timestamp": "2026-01-01T00:00:09+00:00", **tool}) + "\n")
    (run / "mini" / "summary.json").unlink()
    score = {"score": None, "success": None, "kind": None, "reason": "".join(HOSTILE), "details": None}
    block = {"status": "failed", "ended_by": HOSTILE[0], "notes": [*HOSTILE, "\ud800"], "score": score}
    finish(run, "mini", block, error="".join(HOSTILE))
    notice = {"time": "2026-01-01T00:00:09+00:00", "trial": HOSTILE[0], "kind": "warning"}
    (run / "notices.jsonl").write_text("".join(json.dumps({**notice, "text": text}) + "\n" for text in HOSTILE))


def test_what_agents_wrote_is_text_everywhere(ui: UiThread, browser: Browser) -> None:
    """Names, tools, events, notes, errors and model ids: no script runs, the policy refuses nothing, nothing is fetched."""
    named = '"><img src=x onerror=hacked()>'
    begin(ui.runs / named, "<b onclick=x>", *EVENTS)
    write_hostile_texts(ui.runs / "run-a")
    for path in (*PAGES, "/run/run-a/trial/nano/calls", View(named).path, View(named, "<b onclick=x>").path):
        page = browser.open(ui.url(path))
        page.until("document.getElementById('connection').textContent === 'live'")
        unwanted = "script:not([src]), img, b[onclick], svg[onload], [onerror], main h1 + h1, main section main"
        foreign = "[...document.links].filter(link => !link.href.startsWith(location.origin)).length"
        assert page.said == [], path
        assert page.evaluate("window.hacked") is None
        assert page.evaluate(f"document.querySelectorAll({json.dumps(unwanted)}).length") == 0, path
        assert page.evaluate(foreign) == 0
        assert [each for each in page.requests if not each.startswith((ui.url(""), "data:"))] == []
        assert not set("\u202e\u202c\u2066\x00\x1b") & set(page.evaluate("document.body.textContent"))
    shown = {path: browser.open(ui.url(path)).evaluate("document.body.textContent") for path in PAGES}
    for text in HOSTILE[:6]:
        assert [path for path in PAGES[1:] if text not in shown[path]] == []
    assert named in shown["/"]


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_usable_by_keyboard_and_fits_a_phone(ui: UiThread, browser: Browser, path: str) -> None:
    page = browser.open(ui.url(path), width=400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    assert page.evaluate("document.querySelectorAll('th:not([scope]):not(thead th)').length") == 0
    assert page.evaluate("document.querySelectorAll('[style]').length") == 0
