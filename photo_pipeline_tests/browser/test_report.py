"""The migration report as a person opens it: one file, in a real browser."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Request, expect

from photo_pipeline.core.report.write import write_report
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.browser.accessibility import serious_findings
from photo_pipeline_tests.browser.conftest import DESKTOP, PHONE, OpenPage
from photo_pipeline_tests.conftest import standing_site
from photo_pipeline_tests.core.report.conftest import migrate


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, servers: RunningServers) -> Iterator[Path]:
    """The report of a small migration with a photo that cannot be decoded."""
    home = tmp_path_factory.mktemp("report")
    with standing_site(home, servers, photos=3, quality={"sample": 1}) as site:
        (site.uploads / "items/2.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photo")
        with site.project() as project:
            migrate(project)
            yield write_report(project.database, project.config, project.cdn).html


@pytest.mark.parametrize(
    ("scheme", "viewport"),
    [
        ("light", DESKTOP),
        ("dark", PHONE),
        pytest.param("dark", DESKTOP, marks=pytest.mark.slow),
        pytest.param("light", PHONE, marks=pytest.mark.slow),
    ],
)
def test_the_report_is_whole_in_itself_and_accessible(
    report: Path, open_page: OpenPage, scheme: str, viewport: dict[str, int]
) -> None:
    page = open_page(viewport=viewport, color_scheme=scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(_host(request)))
    page.goto(report.as_uri())
    expect(page.get_by_role("heading", level=1)).to_have_text("Photo migration report")
    assert set(asked) == {"file"}, "the report loads nothing from anywhere"
    assert serious_findings(page) == []
    # Nothing makes the page itself scroll sideways.
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]


def test_before_and_after_move_by_the_keyboard(report: Path, open_page: OpenPage) -> None:
    page = open_page()
    page.goto(report.as_uri())
    slider = page.locator("#pictures input[type=range]").first
    frame = page.locator("#pictures .compare").first
    slider.focus()
    slider.press("End")
    assert frame.evaluate("element => element.style.getPropertyValue('--at')") == "100%"
    slider.press("Home")
    assert frame.evaluate("element => element.style.getPropertyValue('--at')") == "0%"


def test_it_is_readable_without_javascript_and_on_paper(report: Path, open_page: OpenPage) -> None:
    page = open_page(java_script_enabled=False)
    page.goto(report.as_uri())
    pictures = page.locator("#pictures .frame").first.locator("img")
    assert [picture.bounding_box() is not None for picture in pictures.all()] == [True, True]
    page.emulate_media(media="print")
    expect(page.locator("#findings")).to_contain_text("What to do")


def _host(request: Request) -> str:
    return request.url.partition(":")[0] if not request.url.startswith("data:") else "file"
