"""Takes the tutorial's pictures anew: `make docs-screenshots`, after `make demo ARGS=--fresh`.

Starts Dagster on the demo, opens the pages in Chromium, rolls one batch back by clicking, and writes
`docs/images/`, each file below 150 KB. Needs Chromium (Debian's
chromium-headless-shell, or $PHOTO_PIPELINE_TEST_CHROMIUM). The demo is rolled back in part afterwards.
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import urllib3
from PIL import Image
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
DEMO = ROOT / ".photo_pipeline" / "demo"
SIZE = {"width": 1280, "height": 800}
MOST_BYTES = 150_000
_PARTITION = "batch-000001"


def main() -> None:
    """Take all pictures."""
    chromium = os.environ.get("PHOTO_PIPELINE_TEST_CHROMIUM") or shutil.which("chromium-headless-shell")
    with sync_playwright() as playwright, dagster_ui() as url:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]
        take_report(page)
        take_graph(page, url)
        take_thumbnails(page, url)
        roll_back(page, url)
        browser.close()


def take_report(page: Page) -> None:
    """Take the top of the migration report, and its pictures."""
    page.goto((DEMO / "reports" / "migration_report.html").as_uri())
    save(page, "report")
    page.get_by_role("link", name="Before and after").click()
    page.wait_for_timeout(1000)
    save(page, "report-pictures", photos=True)


def take_graph(page: Page, url: str) -> None:
    """Take the graph of assets after the migration."""
    page.goto(f"{url}/asset-groups")
    page.get_by_role("button", name="Hide navigation").click()
    # The graph is drawn anew as the assets' states arrive; nothing in the page says when that is over.
    page.wait_for_timeout(8000)
    save(page, "dagster-graph")
    page.evaluate("localStorage.clear()")


def take_thumbnails(page: Page, url: str) -> None:
    """Take the table of pictures before and after, which the asset `processed_variants` shows."""
    page.goto(f"{url}/assets/processed_variants?view=partitions&partition={_PARTITION}")
    page.get_by_text("[Show Markdown]").first.click()
    page.wait_for_timeout(1500)
    save(page, "dagster-before-after", photos=True)


def roll_back(page: Page, url: str) -> None:
    """Roll one batch back by clicking; take the dialog, and what the asset says then."""
    page.goto(f"{url}/locations/photo_pipeline/jobs/rollback")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("Select a partition or create one").click()
    page.get_by_text(_PARTITION).first.click()
    page.keyboard.press("Escape")
    page.wait_for_timeout(1000)
    save(page, "dagster-rollback")
    page.get_by_role("button", name="Launch 1 run").click()
    for _ in range(12):  # the page does not notice a later run by itself
        page.wait_for_timeout(8000)
        page.goto(f"{url}/assets/db_url_rewrites?view=partitions&partition={_PARTITION}")
        page.get_by_text("dagster/partition_row_count").first.wait_for()
        page.wait_for_timeout(1000)
        under_way = page.get_by_text("that targets this partition").count()
        if page.get_by_text("files_restored").is_visible() and not under_way:
            break
    save(page, "dagster-rolled-back")


def save(page: Page, name: str, *, photos: bool = False) -> None:
    """Write what the page shows: a PNG with few colours, or a JPEG where the page shows photos."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = IMAGES / f"{name}.{'jpg' if photos else 'png'}"
    if photos:
        picture.save(path, quality=82, optimize=True)
    else:
        picture.quantize(colors=128, dither=Image.Dither.NONE).save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size:,} bytes", flush=True)
    assert size <= MOST_BYTES, "make the page emptier, or the colours fewer"


@contextmanager
def dagster_ui() -> Iterator[str]:
    """Run `photo-pipeline demo --ui` on a free port until the block ends; gives its address."""
    port = _free_port()
    program = Path(sys.executable).with_name("photo-pipeline")
    process = subprocess.Popen([program, "demo", "--ui", "--port", str(port)], cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(240):
        if process.poll() is not None:
            raise SystemExit("Dagster ended before it answered; its own message is above")
        try:
            urllib3.request("GET", f"{url}/server_info", retries=False, timeout=5)
        except urllib3.exceptions.HTTPError:
            time.sleep(0.5)
        else:
            return
    raise SystemExit("Dagster did not answer within two minutes")


if __name__ == "__main__":
    main()
