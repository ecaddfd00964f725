"""Dagster's pages as an operator meets them, in a real browser: the graph, an asset's page, a rollback.

The migration runs in this process, on the instance that the web server shows; the daemon runs only for the
backfill, which it launches.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from playwright.sync_api import Locator, Page, expect

from photo_pipeline.core.config import CONFIG_ENV
from photo_pipeline.definitions import defs
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.browser.conftest import OpenPage
from photo_pipeline_tests.conftest import embedded_credentials
from photo_pipeline_tests.e2e.test_dagster_ui import (
    eventually,
    free_port,
    is_up,
    processes_of,
    start_dagster,
    stop,
)
from photo_pipeline_tests.sites import Site, build_site

PATIENCE_MS = 60_000
FIRST, SECOND, THIRD = "batch-000001", "batch-000002", "batch-000003"
DASHBOARD = "http://dashboard.example:8321"


@dataclass
class Shown:
    """A site with its first batch migrated, and a web server of Dagster's that shows it.

    `before` are the application's rows, by key, from before the migration.
    """

    url: str
    home: Path
    site: Site
    instance: dg.DagsterInstance
    before: dict[str, tuple[Any, ...]]

    def rows(self) -> dict[str, tuple[Any, ...]]:
        return {row.id: tuple(row) for row in self.site.execute("SELECT * FROM item_photos")}

    def keys(self, batch: str) -> set[str]:
        members = self.site.execute("SELECT row_key FROM pp_photo WHERE batch = :batch", batch=batch)
        return {str(json.loads(row.row_key)[0]) for row in members}


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, servers: RunningServers) -> Iterator[Shown]:
    home = tmp_path_factory.mktemp("dagster-pages")
    site = build_site(
        home / "site",
        url=f"sqlite:///{home / 'site/app.db'}",
        servers=servers,
        name=f"pages-{os.getpid()}",
        photos=3,
        batch_size=1,
        dashboard={"url": DASHBOARD},
    )
    before = {row.id: tuple(row) for row in site.execute("SELECT * FROM item_photos")}
    port = free_port()
    with pytest.MonkeyPatch.context() as patch:
        embedded_credentials(patch)
        patch.setenv("APP_DATABASE_URL", site.url)
        patch.setenv(CONFIG_ENV, str(site.config_path))
        process = start_dagster(home, site, "dagster_webserver", "-h", "127.0.0.1", "-p", str(port))
        try:
            with same_instance(home) as instance:
                run_here(instance, "inventory")
                run_here(instance, "migrate", FIRST)
                url = f"http://127.0.0.1:{port}"
                eventually(lambda: is_up(url, process), "answer of the web server")
                yield Shown(url, home, site, instance, before)
        finally:
            stop(process)
    assert processes_of(home) == []


def run_here(instance: dg.DagsterInstance, job: str, batch: str | None = None) -> None:
    defs.resolve_job_def(job).execute_in_process(instance=instance, partition_key=batch)


def same_instance(home: Path) -> dg.DagsterInstance:
    """The web server's instance for this process, whose working folder is another one."""
    folder = home / "absolute"
    folder.mkdir()
    text = (home / "dagster.yaml").read_text(encoding="utf-8")
    (folder / "dagster.yaml").write_text(text.replace(".dagster", str(home / ".dagster")), encoding="utf-8")
    return dg.DagsterInstance.from_config(str(folder))


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    page = open_page()
    page.set_default_timeout(PATIENCE_MS)
    return page


def seen(locator: Locator) -> None:
    expect(locator).to_be_visible(timeout=PATIENCE_MS)


def test_the_graph_shows_the_seven_assets(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.url}/asset-groups")
    for asset in defs.resolve_all_asset_keys():
        # Beside the graph there is a list of the same names.
        seen(page.locator("foreignObject").get_by_text(asset.to_user_string(), exact=True).first)


def test_an_asset_shows_its_pictures_plots_and_what_to_do_next(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.url}/assets/processed_variants")
    seen(page.get_by_text("Next: s3_objects."))
    page.get_by_text("[Show Markdown]").first.click()
    picture = page.locator("img[src^='data:image/webp']").first
    seen(picture)
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100
    page.get_by_role("button", name="Close").first.click()
    page.get_by_role("button", name="Plots").click()
    seen(page.get_by_text("photos_per_second"))
    seen(page.locator("canvas").first)


def test_an_asset_links_to_the_dashboard_and_to_its_report(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.url}/assets/local_inventory")
    for address in (f"{DASHBOARD}/", f"{DASHBOARD}/report"):
        link = page.get_by_role("link", name=address, exact=True)
        expect(link).to_have_attribute("href", address, timeout=PATIENCE_MS)


def test_a_job_opens_with_a_configuration_that_can_be_launched(shown: Shown, page: Page) -> None:
    page.goto(f"{shown.url}/locations/photo_pipeline/jobs/orphan_cleanup/playground")
    seen(page.get_by_text("No errors"))
    expect(page.get_by_role("button", name="Launch Run")).to_be_enabled(timeout=PATIENCE_MS)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_batches_are_rolled_back_by_clicking(shown: Shown, page: Page) -> None:
    for batch in (SECOND, THIRD):
        run_here(shown.instance, "migrate", batch)
    migrated = shown.rows()
    assert all(migrated[key] != shown.before[key] for key in migrated)
    back = shown.keys(FIRST) | shown.keys(SECOND)
    daemon = start_dagster(shown.home, shown.site, "dagster._daemon", "run")
    try:
        launch_rollback(page, shown.url)
        eventually(lambda: all(row == shown.before[key] for key, row in rows_of(shown, back)), "local rows")
        eventually(lambda: finished_runs(shown) == ["SUCCESS", "SUCCESS"], "end of both runs")
        assert shown.rows() == {key: (shown.before if key in back else migrated)[key] for key in migrated}
        page.goto(f"{shown.url}/assets/db_url_rewrites?view=partitions&partition={FIRST}")
        seen(page.get_by_text("rolled_back", exact=True).first)
    finally:
        stop(daemon)


def launch_rollback(page: Page, url: str) -> None:
    page.goto(f"{url}/locations/photo_pipeline/jobs/rollback")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("Select a partition or create one").click()
    for batch in (FIRST, SECOND):
        page.get_by_text(batch, exact=True).first.click()
    page.keyboard.press("Escape")
    seen(page.get_by_text("2 partitions"))
    page.get_by_role("button", name="Launch backfill").click()


def rows_of(shown: Shown, keys: set[str]) -> list[tuple[str, tuple[Any, ...]]]:
    return [(key, row) for key, row in shown.rows().items() if key in keys]


def finished_runs(shown: Shown) -> list[str]:
    runs = shown.instance.get_runs(dg.RunsFilter(job_name="rollback"))
    return [run.status.value for run in runs if run.is_finished]
