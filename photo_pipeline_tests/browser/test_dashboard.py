"""The dashboard as people meet it: clicked, watched, read aloud, on a phone, and without JavaScript."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Request, expect

from photo_pipeline.core.migration import control
from photo_pipeline_tests.browser.accessibility import serious_findings
from photo_pipeline_tests.browser.conftest import DESKTOP, PHONE, OpenPage
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.sites import Site
from photo_pipeline_tests.web.world import (
    TOKEN,
    HalfDone,
    Served,
    served,
)

PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def running(half_migrated: HalfDone) -> Iterator[Served]:
    with served(half_migrated.database, half_migrated.config) as running:
        yield running


@pytest.fixture
def server(running: Served) -> Iterator[Served]:
    """The server, with a migration that may run before and after."""
    yield running
    control.resume(running.database, run="test")


def signed_in(open_page: OpenPage, server: Served, **settings: object) -> Page:
    page = open_page(**settings)
    page.set_default_timeout(PATIENCE_MS)
    page.goto(f"{server.url}open?token={TOKEN}")
    return page


def test_a_migration_is_paused_and_resumed_by_clicking(open_page: OpenPage, server: Served) -> None:
    page = signed_in(open_page, server)
    assert TOKEN not in page.url
    expect(page.get_by_role("button", name="Resume")).to_be_hidden()
    page.get_by_role("button", name="Pause").click()
    dialog = page.get_by_role("dialog", name="Pause the migration?")
    dialog.get_by_label("Reason").fill("deploying <i>the shop</i>")
    dialog.get_by_role("button", name="Pause").click()
    expect(page.locator("#sentence")).to_contain_text("Paused by dashboard")
    expect(page.locator("#sentence")).to_contain_text("deploying <i>the shop</i>")
    expect(page.get_by_role("button", name="Pause")).to_be_hidden()
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.locator("#sentence")).to_contain_text("Running.")
    assert [(action, actor) for action, actor, _ in server.audit()[-2:]] == [
        ("pause", "dashboard"),
        ("resume", "dashboard"),
    ]


def test_an_abort_wants_the_word_typed(open_page: OpenPage, server: Served) -> None:
    page = signed_in(open_page, server)
    before = len(server.audit())
    page.get_by_role("button", name="Abort").click()
    dialog = page.get_by_role("dialog", name="Abort the migration?")
    dialog.get_by_role("button", name="Abort").click()
    expect(dialog).to_be_visible()
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert len(server.audit()) == before
    page.get_by_role("button", name="Abort").click()
    dialog.get_by_label("Type abort to confirm").fill("abort")
    dialog.get_by_role("button", name="Abort").click()
    expect(page.locator("#sentence")).to_contain_text("Aborted by dashboard")


def test_the_keyboard_is_enough(open_page: OpenPage, server: Served) -> None:
    page = signed_in(open_page, server)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Tab")
    pause = page.get_by_role("button", name="Pause")
    expect(pause).to_be_focused()
    assert pause.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_label("Reason")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(pause).to_be_focused()


def test_what_others_do_shows_without_a_reload(open_page: OpenPage, server: Served) -> None:
    page = open_page()
    page.goto(server.url)
    page.evaluate("window.sameDocument = true")
    expect(page.locator("#live")).to_contain_text("Live, as of")
    expect(page.get_by_text("Read-only.")).to_be_visible()
    assert page.get_by_role("button").count() == 0
    link = page.get_by_role("link", name="Damaged photos")
    link.focus()
    control.pause(server.database, reason="from a terminal", run="test", by="anna@web-1")
    expect(page.locator("#sentence")).to_contain_text("Paused by anna@web-1", timeout=PATIENCE_MS)
    expect(page.locator("#events")).to_contain_text("from a terminal", timeout=PATIENCE_MS)
    assert page.title().startswith("Paused by anna@web-1")
    expect(link).to_be_focused()
    assert page.evaluate("window.sameDocument") is True


def test_a_lost_connection_is_said_and_found_again(open_page: OpenPage, half_migrated: HalfDone) -> None:
    page = open_page()
    with served(half_migrated.database, half_migrated.config) as first:
        page.goto(first.url)
        expect(page.locator("#live")).to_contain_text("Live, as of", timeout=PATIENCE_MS)
        expect(page.locator("#lost")).to_be_hidden()
    expect(page.locator("#lost")).to_contain_text("Connection lost", timeout=PATIENCE_MS)
    expect(page.locator("#live")).to_have_text("Not live")
    port = int(first.origin.rpartition(":")[2])
    with served(half_migrated.database, half_migrated.config, port=port):
        expect(page.locator("#lost")).to_be_hidden(timeout=PATIENCE_MS)
        expect(page.locator("#live")).to_contain_text("Live, as of", timeout=PATIENCE_MS)


def test_without_javascript_the_page_is_complete_and_pauses_too(open_page: OpenPage, server: Served) -> None:
    page = signed_in(open_page, server, java_script_enabled=False, viewport=PHONE)
    expect(page.get_by_role("link", name="Reload")).to_be_visible()
    expect(page.get_by_role("heading", name="Last events")).to_be_visible()
    page.get_by_role("link", name="Pause").click()
    page.get_by_label("Reason").fill("no script")
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#sentence")).to_contain_text("no script")


@pytest.mark.parametrize(
    ("scheme", "viewport"),
    [
        ("light", DESKTOP),
        ("dark", PHONE),
        pytest.param("dark", DESKTOP, marks=pytest.mark.slow),
        pytest.param("light", PHONE, marks=pytest.mark.slow),
    ],
)
def test_nothing_serious_stands_in_anybodys_way(
    open_page: OpenPage, server: Served, scheme: str, viewport: dict[str, int]
) -> None:
    page = signed_in(open_page, server, color_scheme=scheme, viewport=viewport)
    expect(page.locator("#live")).to_contain_text("Live, as of")
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    page.get_by_role("button", name="Abort").click()
    assert serious_findings(page) == []
    page.goto(f"{server.url}findings/corrupt")
    assert serious_findings(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_only_the_sentence_is_spoken(open_page: OpenPage, server: Served) -> None:
    page = open_page()
    page.goto(server.url)
    assert page.locator("[aria-live], [role=status], [role=alert]").count() == 1
    expect(page.get_by_role("status")).to_contain_text("photos are migrated")
    headings = page.locator("h1, h2").all_text_contents()
    assert headings[0] == "Photo migration"
    assert len(headings) == 7
    assert page.get_by_role("main").count() == page.get_by_role("banner").count() == 1
    expect(page.get_by_role("img", name="Map of the batches")).to_be_visible()


def test_hostile_names_run_nothing_and_no_request_leaves(open_page: OpenPage, server: Served) -> None:
    page, asked, alerts = open_page(), [], []

    def note(request: Request) -> None:
        asked.append(request.url)

    page.on("request", note)
    page.on("dialog", lambda dialog: alerts.append(dialog.message))
    page.goto(server.url)
    expect(page.locator("#live")).to_contain_text("Live, as of", timeout=PATIENCE_MS)
    page.get_by_role("link", name="Damaged photos").click()
    expect(page.get_by_text("<script>document.title='broken'</script>")).to_be_visible()
    assert page.title() == "Damaged photos: 3"
    assert alerts == []
    assert len(asked) >= 5
    assert [url for url in asked if not url.startswith(server.url)] == []


def test_a_real_migration_fills_the_page_from_nothing_to_done(
    open_page: OpenPage, make_site: MakeSite, tmp_path: Path
) -> None:
    site = make_site(photos=3, batch_size=2)
    bad = site.uploads / "items/2.jpg"
    bad.write_bytes(bad.read_bytes()[:2_000])
    page = open_page()
    with site.project() as project, served(project.database, project.config) as server:
        page.goto(server.url)
        sentence_shown = expect(page.locator("#sentence"))
        sentence_shown.to_contain_text("Nothing has been inventoried yet")
        failures: list[BaseException] = []
        work = threading.Thread(target=_migrate, args=(site, failures))
        work.start()
        sentence_shown.to_contain_text(
            "Done. 66 % of 3 photos are migrated; 1 finding needs a look.", timeout=60_000
        )
        work.join(60)
        assert failures == []
        expect(page.locator("#map .map i.s-completed")).to_have_count(2)
        expect(page.locator("#events")).to_contain_text("rewrite")
        page.get_by_role("link", name="Damaged photos").click()
        expect(page.get_by_text("items/2.jpg")).to_be_visible()


def _migrate(site: Site, failures: list[BaseException]) -> None:
    try:
        site.migrate()
    except Exception as error:  # noqa: BLE001  # asserted by the test, in its own thread
        failures.append(error)
