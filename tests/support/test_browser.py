"""The browser of the tests, on pages that are a few lines each."""

from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import psutil
import pytest
from PIL import Image

from tests.support.browser import Browser, DevToolsError, started

pytestmark = pytest.mark.wire

PAGE = """<!doctype html><title>a page</title>
<style>body { background: #fff; color: #000; font: 40px sans-serif }
@media (prefers-color-scheme: dark) { body { background: #000 } }
@media (max-width: 500px) { .wide { display: none } }</style>
<p class=wide>wide</p><p class=keys></p><button>one</button>
<img src=/absent.png onerror="document.title = 'ran'">
<script src=/script.js></script>"""
SCRIPT = """addEventListener('keydown', e => { document.querySelector('.keys').textContent += e.key + ' ' });
console.log('hello', 7); setTimeout(() => { document.body.dataset.late = 'yes' }, 50); setTimeout(() => nobody(), 0)"""


class Handler(BaseHTTPRequestHandler):
    """Answers with a page and its script; inline scripts are forbidden."""

    def do_GET(self) -> None:
        body = {"/": PAGE, "/script.js": SCRIPT}.get(self.path, "")
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/javascript" if self.path.endswith(".js") else "text/html")
        self.send_header(
            "Content-Security-Policy",
            "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src 'self'",
        )
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its parameter's name
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


def test_what_a_page_says_and_asks_for_is_noted(browser: Browser, address: str) -> None:
    page = browser.open(address)
    assert page.until("document.body.dataset.late") == "yes"
    assert page.requests[:3] == [address, f"{address}absent.png", f"{address}script.js"]
    assert page.evaluate("document.title") == "a page"
    assert "console log: hello 7" in page.said
    assert any(line.startswith("exception: ReferenceError: nobody") for line in page.said)
    assert any("Content Security Policy" in line for line in page.said)
    assert any(line.startswith("network error") for line in page.said)


def test_a_page_of_this_size_and_theme_is_drawn_with_its_text(browser: Browser, address: str, tmp_path: Path) -> None:
    page = browser.open(address, width=600, height=300)
    with Image.open(page.screenshot(tmp_path / "light.png")) as light:
        assert light.size == (600, 300)
        colours = light.convert("L").histogram()
        assert colours[255] > 100_000
        assert sum(colours[:64]) > 200  # the text, in a font of this machine
    page.look(dark=True)
    page.resize(400)
    assert page.evaluate("getComputedStyle(document.querySelector('.wide')).display") == "none"
    with Image.open(page.screenshot(tmp_path / "dark.png", whole=True)) as dark:
        assert dark.size == (400, 900)
        assert dark.convert("L").getpixel((399, 0)) == 0
    assert page.pdf(tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")


def test_keys_reach_the_page_and_scripts_can_be_switched_off(browser: Browser, address: str) -> None:
    page = browser.open(address)
    page.press("q", "Tab", "Shift+Tab", "Enter")
    assert page.text(".keys") == "q Tab Tab Enter"
    quiet = browser.open(address, script=False)
    assert quiet.texts("p") == ["wide", ""]
    assert f"{address}script.js" not in quiet.requests or quiet.evaluate("document.body.dataset.late") is None
    with pytest.raises(AssertionError, match="nobody"):
        page.evaluate("nobody()")
    with pytest.raises(DevToolsError):
        page.ask("Page.noSuchMethod")


def test_nothing_is_left_of_a_browser() -> None:
    ours = psutil.Process()
    before = set(ours.children(recursive=True))
    with started() as browser:
        browser.open("about:blank")
        processes = set(ours.children(recursive=True)) - before
        profile = next(part for each in processes for part in each.cmdline() if part.startswith("--user-data-dir="))
        assert Path(profile.partition("=")[2]).is_dir()
    assert not psutil.wait_procs(processes, timeout=30)[1]
    assert not Path(profile.partition("=")[2]).exists()
