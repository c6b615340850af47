"""A real browser without a screen: chromium, driven by playwright, which remembers what goes wrong in a page."""

from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

PROGRAM = Path("/usr/bin/chromium")
PATIENCE_MS = 60_000
"""JupyterLab's first page takes long where two cores have other things to do."""

CARD = ".jp-LauncherCard[data-category=Notebook]"
NOT_SAVED_YET = "/api/contents/Untitled"
"""JupyterLab looks for a notebook that it has not made yet, and chromium complains that it is not found."""

FLAGS = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
    # Whatever a page or the browser itself would like to look up elsewhere does not exist.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


class Visitor:
    """One person's window, with cookies of its own, and what went through it."""

    def __init__(self, browser, **options):
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE_MS)
        self.page = self.context.new_page()
        self.requests, self.complaints, self.handshakes = [], [], []
        self.context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", self._note)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        wire = self.context.new_cdp_session(self.page)
        wire.send("Network.enable")
        wire.on("Network.webSocketHandshakeResponseReceived", self._note_handshake)

    def open(self, address):
        """Go to an address; return the status of what came."""
        return self.page.goto(address).status

    def log_in(self, password):
        """Fill in JupyterLab's form."""
        self.page.fill("input[type=password]", password)
        self.page.click("#login_submit")

    def wait_for_lab(self):
        """Return when JupyterLab has opened, with its launcher or with the notebook that was open the last time."""
        self.page.locator(f"{CARD}, .jp-Notebook").first.wait_for()

    def open_notebook(self):
        """Make a notebook, or take the one that is open; return when its kernel is there."""
        self.wait_for_lab()
        if not self.page.locator(".jp-Notebook").count():
            self.page.click(CARD)
        self.wait_for_kernel()

    def wait_for_kernel(self):
        """Return when the notebook's kernel has nothing to do."""
        self.page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()

    def choose_kernel(self):
        """Take a new kernel for the notebook, by the dialog."""
        self.page.click(".jp-Toolbar-kernelName")
        self.page.click(".jp-Dialog button.jp-mod-accept")
        self.wait_for_kernel()

    def run(self, code):
        """Run `code` in the last cell of the notebook; return what is shown below it."""
        from playwright.sync_api import TimeoutError as Lost  # tests without a browser do without it

        number = self.page.locator(".jp-Notebook .jp-CodeCell").count() - 1
        cell = self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)
        taken = cell.locator(".jp-InputArea-prompt:not(:text-is('[ ]:'))")
        for _ in range(5):
            # A notebook that has just been opened may be drawn once more, and what was typed is gone.
            cell.locator(".cm-content").fill(code)
            cell.locator(".cm-content").press("Shift+Enter")
            with suppress(Lost):
                taken.wait_for(timeout=5000)
                break
        return cell.locator(".jp-OutputArea-output").inner_text().strip()

    def hosts(self):
        """Return the hosts that were asked for anything."""
        return {urlsplit(url).hostname for url in self.requests if not url.startswith(("data:", "blob:"))}

    def picture(self, path):
        """Write down what is seen, for whoever looks into a failure; return what the browser said."""
        self.page.screenshot(path=path)
        return "\n".join([f"{self.page.url} looked like {path}", *self.complaints])

    def _note(self, message):
        where = message.location.get("url", "")
        if message.type == "error" and not ("404" in message.text and NOT_SAVED_YET in where):
            self.complaints.append(f"{message.text} ({where})")

    def _note_handshake(self, event):
        self.handshakes.append(event["response"]["status"])


class Chromium:
    """The browser."""

    def __init__(self, browser):
        self._browser = browser

    @contextmanager
    def visitor(self, **options):
        """Give a visitor whom nobody knows yet; `options` are those of playwright's new_context."""
        visitor = Visitor(self._browser, **options)
        try:
            yield visitor
        finally:
            visitor.context.close()


@contextmanager
def chromium():
    """Run the browser; skip loudly where there is none."""
    if not PROGRAM.exists():
        pytest.skip(f"NO BROWSER: {PROGRAM} is not there (apt install chromium)")
    from playwright.sync_api import sync_playwright  # takes half a second

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=PROGRAM, args=FLAGS)
        try:
            yield Chromium(browser)
        finally:
            browser.close()
