"""The pictures of the README, taken in a real browser from a finished run: its report, and its chat page at work.

    python bench/screenshots.py runs/pocket --out docs/images

Needs a Chromium on the path and the package ``playwright`` (the extra ``test``).  The report is opened as a file, the
chat page from a server on a free port of this machine; ``--question`` (several times) says what is asked in one
conversation.
"""

import argparse
import shutil
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from playwright.sync_api import Browser, Page, sync_playwright

from herd.foundation.errors import HerdError
from herd.report.page import write_report
from herd.serve.app import create_app
from herd.serve.household import Household

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_QUIET = ("--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync")
_QUESTIONS = ("What does json.dumps do?", "What is 37 * 412 - 5?")
_ANSWER_MILLISECONDS = 60_000
_START_SECONDS = 60.0


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The address of a server of ``model``."""
    app = create_app(Household.open(model))
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [place]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{place.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(_START_SECONDS)


def open_page(browser: Browser, address: str, width: int, height: int) -> Page:
    """A page in the light colours."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
    page.goto(address)
    return page


def picture_report(browser: Browser, run: Path, target: Path) -> None:
    """The top of the report, anew from the run's artifacts."""
    page = open_page(browser, write_report(run).resolve().as_uri(), 1200, 1000)
    page.screenshot(path=target)


def picture_chat(browser: Browser, address: str, questions: Sequence[str], target: Path) -> None:
    """The chat page after the questions have been answered."""
    page = open_page(browser, address, 1000, 760)
    for question in questions:
        page.get_by_label("Your message").fill(question)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Stop").wait_for(timeout=_ANSWER_MILLISECONDS)
        page.get_by_role("button", name="Send").wait_for(timeout=_ANSWER_MILLISECONDS)
    page.get_by_label("Your message").blur()
    page.screenshot(path=target)


def main() -> None:
    """Reads the arguments and takes the pictures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--question", action="append", help="what is asked on the chat page; may be repeated")
    options = parser.parse_args()
    chromium = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if chromium is None:
        print(f"herd: there is no browser on the path ({', '.join(_BROWSERS)})", file=sys.stderr)
        raise SystemExit(2)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=list(_QUIET))
            picture_report(browser, options.run, options.out / "report.png")
            with served(options.run / "chat") as address:
                picture_chat(browser, address, options.question or _QUESTIONS, options.out / "chat.png")
            browser.close()
    except HerdError as error:
        print(f"herd: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    print(f"{options.out / 'report.png'}\n{options.out / 'chat.png'}")


if __name__ == "__main__":
    main()
