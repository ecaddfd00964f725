"""A real Chromium for the tests of pages; without one they are skipped, and say so."""

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

# Debian's names first: Playwright's own download is not reachable everywhere.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}

OpenPage = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for all tests of a worker."""
    installed = next(filter(None, map(shutil.which, _NAMES)), None)
    program = os.environ.get("PHOTO_PIPELINE_TEST_CHROMIUM") or installed
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium-headless-shell, or $PHOTO_PIPELINE_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        # Its sandbox needs user namespaces, which containers run by root do not have.
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Return a function that opens a new page: `open_page(viewport=PHONE, color_scheme="dark", …)`.

    Keywords are those of Playwright's `Browser.new_context`. Errors in the page's console fail the test.
    """
    contexts = []
    errors: list[str] = []

    def opened(**settings: object) -> Page:
        context = browser.new_context(**{"viewport": DESKTOP, **settings})  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        return page

    yield opened
    for context in contexts:
        context.close()
    assert errors == [], "a script of the page failed"
