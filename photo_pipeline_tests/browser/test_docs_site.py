"""The built documentation in a real browser: nothing comes from elsewhere, and axe has no serious finding."""

import subprocess
import sys
from pathlib import Path

import pytest

from photo_pipeline_tests.browser.accessibility import serious_findings
from photo_pipeline_tests.browser.conftest import DESKTOP, PHONE, OpenPage

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("index.html", "tutorial.html", "reference/configuration.html", "runbooks/budget-exhausted.html")


@pytest.fixture(scope="module")
def site() -> Path:
    program = Path(sys.executable).with_name("zensical")
    subprocess.run([program, "build", "--config-file", "mkdocs.yml", "--strict"], cwd=ROOT, check=True)
    return ROOT / ".photo_pipeline" / "site"


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_pages_need_no_other_host_and_are_accessible(
    site: Path, open_page: OpenPage, size: dict[str, int], scheme: str
) -> None:
    page = open_page(viewport=size, color_scheme=scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name in PAGES:
        page.goto((site / name).as_uri())
        assert serious_findings(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], (
            f"{name} scrolls sideways"
        )
    assert [url for url in asked if not url.startswith("file:")] == []
