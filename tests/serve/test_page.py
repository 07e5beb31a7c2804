"""The chat page in a real browser: the tool call as it happens, the answer, the guard's refusal, the key."""

import shutil
from collections.abc import Iterator

import pytest

from tests.serve.conftest import SENTENCE, Served

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path")
playwright_sync = pytest.importorskip("playwright.sync_api")


@pytest.fixture
def page() -> Iterator:
    """A narrow window; whatever its console says is a failure."""
    with playwright_sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 420, "height": 700})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
        assert errors == []


def say(page, words: str) -> None:  # noqa: ANN001
    page.get_by_label("Your message").fill(words)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Send").wait_for(timeout=15_000)


def test_a_question_shows_its_tool_call_and_answer(page, served: Served) -> None:  # noqa: ANN001
    page.goto(served.url)
    page.get_by_role("button", name="What does json.dumps do?").click()
    page.locator(".assistant", has_text=SENTENCE).wait_for(timeout=15_000)
    assert "json.dumps" in page.locator(".tool summary").inner_text()
    assert SENTENCE in page.locator(".tool pre").inner_text()
    say(page, "<b>Hello</b>")
    page.locator(".user", has_text="<b>Hello</b>").wait_for(timeout=5_000)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_guard_is_seen_and_the_key_is_asked_for_once(page, guarded: Served) -> None:  # noqa: ANN001
    asked: list[str] = []

    def give_key(dialog) -> None:  # noqa: ANN001
        asked.append(dialog.message)
        dialog.accept("open sesame")

    page.on("dialog", give_key)
    page.goto(guarded.url)
    page.locator("#model", has_text="guard on").wait_for(timeout=5_000)
    say(page, "an evil plan")
    page.locator(".note", has_text="The guard stopped this prompt (S7).").wait_for(timeout=15_000)
    assert "I can't answer that" in page.locator(".assistant").inner_text()
    page.get_by_role("button", name="New").click()
    say(page, "Open it")
    page.locator(".note", has_text="The guard stopped this answer").wait_for(timeout=15_000)
    assert page.locator(".tool").count() == 0
    assert "secret" not in page.locator("main").inner_text()
    assert len(asked) == 1
