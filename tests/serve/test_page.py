"""The chat page in a real browser: a question, the tool call as it happens, the answer."""

import shutil

import pytest

from tests.serve.conftest import SENTENCE, Served

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path")
def test_a_question_shows_its_tool_call_and_answer(served: Served) -> None:
    from playwright.sync_api import sync_playwright

    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=quiet)
        page = browser.new_page(viewport={"width": 420, "height": 700})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(served.url)
        page.get_by_role("button", name="What does json.dumps do?").click()
        page.locator(".assistant", has_text=SENTENCE).wait_for(timeout=15_000)
        assert "json.dumps" in page.locator(".tool summary").inner_text()
        assert SENTENCE in page.locator(".tool pre").inner_text()
        page.get_by_label("Your message").fill("<b>Hello</b>")
        page.keyboard.press("Enter")
        page.locator(".user", has_text="<b>Hello</b>").wait_for(timeout=5_000)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.get_by_role("button", name="Send").wait_for(timeout=15_000)
        assert errors == []
        browser.close()
