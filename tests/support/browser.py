"""A headless Chromium that tests look at pages with, driven by the DevTools protocol over its websocket.

Source: https://chromedevtools.github.io/devtools-protocol/ for all methods, events and their fields.
"""

import asyncio
import base64
import contextlib
import functools
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import aiohttp
import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
REQUIRE_BROWSER = os.environ.get("PREFLIGHT_REQUIRE_BROWSER") == "1"
NO_BROWSER = "no Chromium on this machine (PREFLIGHT_REQUIRE_BROWSER=1 makes that an error)"
LIMIT_S = 60.0
"""A page that has not done by then what a test waits for never will."""

LOOK_EVERY_S = 0.02
MESSAGE_BYTES_MAX = 256 * 2**20
SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"),
    *("--remote-debugging-port=0", "--no-first-run", "--disable-extensions", "--disable-breakpad"),
    # Chromium itself asks nobody, and a page reaches this machine only, without a proxy in between.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "about:blank",
)
KEY_CODES = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
KEY_TEXTS = {"Enter": "\r"}
SHIFT = 8

Fields = dict[str, Any]
T = TypeVar("T")


@dataclass
class Page:
    """One page in a browser context of its own: no cookie and no storage of another page.

    Attributes:
        said: Console lines, log entries (refusals by the CSP are among them), exceptions and dialogs, each with its kind.
        requests: The addresses that were asked for, the page's own first; `data:` is among them.
    """

    browser: "Browser"
    session: str
    context: str
    said: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _loaded: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self, method: str, **params: Any) -> Fields:
        """Call a DevTools method for this page and return its result."""
        return self.browser.wait_for(self.browser.ask(method, params, self.session))

    def goto(self, url: str) -> None:
        """Go to an address; return when its load event has come."""

        async def go() -> None:
            self._loaded.clear()
            answer = await self.browser.ask("Page.navigate", {"url": url}, self.session)
            assert not answer.get("errorText"), f"{url}: {answer['errorText']}"
            if answer.get("loaderId"):  # absent: only the fragment differs
                await self._loaded.wait()

        self.browser.wait_for(go())

    def evaluate(self, script: str) -> Any:
        """Return what an expression is worth, as JSON; a promise is awaited.

        Raises:
            AssertionError: The expression threw.
        """
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        """Return the value of an expression once it is true; a page that is replaced meanwhile is looked at anew."""

        async def look() -> Any:
            while True:
                params = {"expression": script, "returnByValue": True, "awaitPromise": True}
                with contextlib.suppress(DevToolsError):  # the page went while it was looked at
                    answer = await self.browser.ask("Runtime.evaluate", params, self.session)
                    if value := answer["result"].get("value"):
                        return value
                await asyncio.sleep(LOOK_EVERY_S)

        try:
            return self.browser.wait_for(look())
        except TimeoutError:
            raise AssertionError(f"never true: {script}; the page said {self.said}") from None

    def text(self, selector: str = "body") -> str:
        """Return the text of the first such element as it is shown."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """Return the texts of all such elements, trimmed, also of those that are not shown."""
        found = self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map(each => each.textContent.trim())"
        )
        return [str(each) for each in found]

    def resize(self, width: int, height: int = 900) -> None:
        """Give the window this size in CSS pixels, at one dot each."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def look(self, *, dark: bool = False, medium: str = "") -> None:
        """Prefer dark or light; `medium` is "screen", "print" or the usual one."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", media=medium, features=[scheme])

    def screenshot(self, path: Path, *, whole: bool = False) -> Path:
        """Write what the window shows, or the whole page, as PNG."""
        answer = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole, **self._clip(whole))
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def _clip(self, whole: bool) -> Fields:
        if not whole:
            return {}
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def pdf(self, path: Path) -> Path:
        """Write the page as a browser prints it on A4."""
        answer = self.ask("Page.printToPDF", printBackground=True, paperWidth=8.27, paperHeight=11.69)
        path.write_bytes(base64.b64decode(answer["data"]))
        return path

    def press(self, *keys: str) -> None:
        """Press keys, one after the other: a character, a name of `KEY_CODES`, or "Shift+Tab"."""
        for key in keys:
            name = key.removeprefix("Shift+")
            text = KEY_TEXTS.get(name, name if len(name) == 1 else "")
            code = KEY_CODES.get(name, ord(name[0].upper()))
            params = {"key": name, "windowsVirtualKeyCode": code, "modifiers": SHIFT if name != key else 0}
            self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **params)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **params)

    def heard(self, method: str, params: Fields) -> None:
        """Note an event of this page."""
        match method:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Runtime.consoleAPICalled":
                words = [str(each.get("value", each.get("description"))) for each in params["args"]]
                self.said.append(f"console {params['type']}: {' '.join(words)}")
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                self.said.append(f"exception: {details.get('exception', {}).get('description', details['text'])}")
            case "Log.entryAdded":
                self.said.append(f"{params['entry']['source']} {params['entry']['level']}: {params['entry']['text']}")
            case "Page.javascriptDialogOpening":
                self.said.append(f"dialog: {params['message']}")
                self.browser.note(self.browser.ask("Page.handleJavaScriptDialog", {"accept": False}, self.session))


class DevToolsError(Exception):
    """Chromium refused a method; its message says why."""


class Browser:
    """A Chromium with a profile of its own. Leaving it ends the process and removes the profile.

    Its methods are called from any thread but one that runs `serve` itself in an event loop: they block.
    """

    def __init__(self, program: str) -> None:
        self._program = program
        self._profile = Path(tempfile.mkdtemp(prefix="chromium-"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._answers: dict[int, asyncio.Future[Fields]] = {}
        self._pages: dict[str, Page] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self.wait_for(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT_S)
        self._loop.close()
        shutil.rmtree(self._profile, ignore_errors=True)

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what this coroutine returns, run on the browser's own loop; at most `LIMIT_S`."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, LIMIT_S), self._loop).result()

    def note(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine of which nobody waits for the end."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def ask(self, method: str, params: Mapping[str, Any], session: str = "") -> Fields:
        """Call a method of the protocol and return its result.

        Raises:
            DevToolsError: Chromium refused it.
        """
        number = len(self._answers) + 1
        self._answers[number] = self._loop.create_future()
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        await self._socket.send_json(message)
        answer = await self._answers[number]
        if "error" in answer:
            raise DevToolsError(f"{method}: {answer['error']['message']}")
        result: Fields = answer["result"]
        return result

    def open(self, url: str, *, width: int = 1400, height: int = 900, dark: bool = False, script: bool = True) -> Page:
        """Open an address in a new page of that size and return it once it is loaded.

        `script=False`: the page's own scripts do not run; `evaluate` does.
        """

        async def begin() -> Page:
            context = (await self.ask("Target.createBrowserContext", {}))["browserContextId"]
            target = await self.ask("Target.createTarget", {"url": "about:blank", "browserContextId": context})
            attached = await self.ask("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
            page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"], context)
            for domain in ("Page", "Runtime", "Log", "Network"):
                await self.ask(f"{domain}.enable", {}, page.session)
            return page

        page = self.wait_for(begin())
        page.resize(width, height)
        page.look(dark=dark)
        page.ask("Emulation.setScriptExecutionDisabled", value=not script)
        page.goto(url)
        return page

    def close_pages(self) -> None:
        """Close all pages, and forget their cookies and storage."""
        for page in self._pages.values():
            self.wait_for(self.ask("Target.disposeBrowserContext", {"browserContextId": page.context}))
        self._pages.clear()

    async def _start(self) -> None:
        home = {name: str(self._profile) for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")}
        self._process = await asyncio.create_subprocess_exec(
            *(self._program, f"--user-data-dir={self._profile}", *SWITCHES),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, **home},
        )
        assert self._process.stderr is not None
        said = b""
        while not (address := re.search(rb"DevTools listening on (ws://\S+)", said)):
            line = await self._process.stderr.readline()
            assert line, f"Chromium ended before it listened: {said.decode('utf-8', 'replace')}"
            said += line
        self.note(self._process.stderr.read())  # a full pipe would stop it
        self._http = aiohttp.ClientSession()
        self._socket = await self._http.ws_connect(address[1].decode(), max_msg_size=MESSAGE_BYTES_MAX)
        self.note(self._listen())

    async def _listen(self) -> None:
        async for frame in self._socket:
            message = json.loads(frame.data)
            if "id" in message:
                self._answers[message["id"]].set_result(message)
            elif page := self._pages.get(message.get("sessionId", "")):
                page.heard(message["method"], message.get("params", {}))
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(DevToolsError("Chromium closed the connection"))

    async def _end(self) -> None:
        with contextlib.suppress(DevToolsError, ConnectionError):
            await self.ask("Browser.close", {})
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._http.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@functools.cache
def chromium() -> str | None:
    """Return the path of the first Chromium, None if this machine has none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextlib.contextmanager
def started() -> Iterator[Browser]:
    """Start the browser of this machine; without one the test is skipped, or fails where one is required."""
    program = chromium()
    if program is None and REQUIRE_BROWSER:
        pytest.fail(f"PREFLIGHT_REQUIRE_BROWSER=1, and there is none of {', '.join(PROGRAMS)}")
    if program is None:
        pytest.skip(NO_BROWSER)
    with Browser(program) as browser:
        yield browser


@pytest.fixture(scope="session")
def browser_of_the_session() -> Iterator[Browser]:
    """The browser that `browser` lends to one test after the other."""
    with started() as browser:
        yield browser


@pytest.fixture
def browser(browser_of_the_session: Browser) -> Iterator[Browser]:
    """The browser of this session; its pages are closed after the test."""
    yield browser_of_the_session
    browser_of_the_session.close_pages()
