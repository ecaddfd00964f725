"""The assets through Dagster's engine, on an ephemeral instance and a real site."""

import base64
import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from PIL import Image

from photo_pipeline.assets.presentation import before_after
from photo_pipeline.core.migration.process import MadeSample
from photo_pipeline.definitions import defs
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.sites import Site

FIRST, SECOND = "batch-000001", "batch-000002"

HOLDER = """
import os, sys
from pathlib import Path
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.project import Project
with Project.load(Path(os.environ["PHOTO_PIPELINE_CONFIG"])) as project:
    with BatchLease(project.database, sys.argv[1], run="other-run"):
        print("held", flush=True)
        sys.stdin.read()
"""


@dataclass
class Dagster:
    """One ephemeral instance, on which jobs of ours run in this process."""

    instance: dg.DagsterInstance

    def run(self, job: str, partition: str | None = None, **options: Any) -> dg.ExecuteInProcessResult:
        return defs.resolve_job_def(job).execute_in_process(
            instance=self.instance, partition_key=partition, raise_on_error=False, **options
        )

    def succeed(self, job: str, partition: str | None = None, **options: Any) -> dg.ExecuteInProcessResult:
        result = self.run(job, partition, **options)
        assert result.success
        return result

    def partitions(self) -> list[str]:
        return list(self.instance.get_dynamic_partitions("photo_batches"))


@pytest.fixture
def dagster() -> Iterator[Dagster]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield Dagster(instance)


def materialized(result: dg.ExecuteInProcessResult, asset: str) -> dg.AssetMaterialization:
    (materialization,) = result.asset_materializations_for_node(asset)
    return materialization


def facts(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """The plain metadata values of an asset's materialization."""
    return {name: value.value for name, value in materialized(result, asset).metadata.items()}


def webp_pictures(markdown: str) -> list[bytes]:
    """The pictures inside of a Markdown text."""
    return [base64.b64decode(text) for text in re.findall(r"data:image/webp;base64,([^)]+)\)", markdown)]


def records(result: dg.ExecuteInProcessResult, asset: str, table: str) -> list[dict[str, Any]]:
    """The records of a table in an asset's metadata."""
    value = materialized(result, asset).metadata[table]
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


@dataclass(frozen=True)
class Told:
    """What a failed step tells in the UI."""

    description: str
    thing: str
    cause: str
    fix: str
    kind: str
    runbook: str


def failure_of(result: dg.ExecuteInProcessResult, step: str) -> Told:
    """The Failure with which a step ended the run."""
    assert not result.success
    (event,) = [each for each in result.all_events if each.is_step_failure and each.step_key == step]
    failure = event.step_failure_data.user_failure_data
    assert failure is not None, event.step_failure_data.error
    assert failure.description is not None
    values = {name: str(value.value) for name, value in failure.metadata.items()}
    thing = failure.description.partition(f": {values['cause']}")[0]
    named = {name: values[name] for name in ("cause", "fix", "kind", "runbook")}
    return Told(failure.description, thing, **named)


def started(result: dg.ExecuteInProcessResult) -> set[str | None]:
    return {event.step_key for event in result.all_events if event.is_step_start}


def assert_every_check_passes(result: dg.ExecuteInProcessResult, names: set[str]) -> None:
    evaluations = result.get_asset_check_evaluations()
    assert {each.check_name for each in evaluations} == names
    for each in evaluations:
        assert each.passed, each
        assert each.metadata["checked"].value > 0, each


def test_an_inventory_registers_each_batch_as_a_partition(make_site: MakeSite, dagster: Dagster) -> None:
    make_site(photos=5, batch_size=2)
    result = dagster.succeed("inventory")
    assert dagster.partitions() == [FIRST, SECOND, "batch-000003"]
    found = facts(result, "local_inventory")
    assert (found["dagster/row_count"], found["files"], found["rows"], found["references"]) == (5, 5, 5, 5)
    classes = {record["class"]: record["count"] for record in records(result, "local_inventory", "classes")}
    assert classes["matched"] == classes["total"] == 5
    sums = facts(result, "checksum_catalog")
    assert (sums["dagster/row_count"], sums["hashed"], sums["batches"], sums["new_batches"]) == (5, 5, 3, 3)
    assert_every_check_passes(
        result, {"every_reference_and_file_has_one_class", "every_matched_photo_is_batched_or_explained"}
    )


def test_a_second_inventory_reuses_checksums_and_partitions(make_site: MakeSite, dagster: Dagster) -> None:
    make_site(photos=2)
    dagster.succeed("inventory")
    again = facts(dagster.succeed("inventory"), "checksum_catalog")
    assert (again["hashed"], again["reused"], again["new_batches"]) == (0, 2, 0)
    assert dagster.partitions() == [FIRST]


def test_two_batches_go_to_the_cdn_one_comes_back_and_the_report_tells(
    make_site: MakeSite, dagster: Dagster
) -> None:
    dashboard = {"url": "http://127.0.0.1:8321/"}
    site = make_site(photos=4, batch_size=2, quality={"sample": 0.02}, dashboard=dashboard)
    before = urls(site)
    assert facts(dagster.succeed("inventory"), "local_inventory")["dashboard"] == dashboard["url"]
    for batch in (FIRST, SECOND):
        result = dagster.succeed("migrate", batch)
        assert_every_check_passes(
            result,
            {
                "visual_quality_is_above_the_floor",
                "every_photo_is_uploaded_or_explained",
                "no_dangling_url",
                "every_photo_is_delivered_intact",
            },
        )
        assert materialized(result, "db_url_rewrites").tags["url_target"] == "cdn"
    migrated = urls(site)
    assert all(url.startswith(site.settings["cdn"]["base_url"]) for url in migrated.values())
    for asset in ("processed_variants", "s3_objects", "db_url_rewrites", "validation_report"):
        assert facts(result, asset)["dashboard"] == dashboard["url"]
        assert facts(result, asset)["report"] == "http://127.0.0.1:8321/report"
    back = dagster.succeed("rollback", FIRST)
    assert facts(back, "db_url_rewrites")["report"] == "http://127.0.0.1:8321/report"
    assert materialized(back, "db_url_rewrites").tags["url_target"] == "local"
    assert facts(back, "db_url_rewrites")["rolled_back"] == 2
    rows = batch_rows(site, FIRST)
    assert urls(site) == {key: (before if key in rows else migrated)[key] for key in before}
    report = facts(dagster.succeed("report"), "migration_report")
    assert {"report_file", "json_file", "csv_file"} <= set(report)
    assert (report["migrated"], report["waiting"], report["findings_total"]) == (2, 0, 0)
    assert report["bytes_saved"] > 0
    assert report["report"] == "http://127.0.0.1:8321/report"
    assert (site.home / "reports/migration_report.html").stat().st_size > 1_000


def test_without_a_dashboard_nothing_links_to_one(make_site: MakeSite, dagster: Dagster) -> None:
    site = make_site(photos=1)
    assert "dashboard" not in facts(dagster.succeed("inventory"), "local_inventory")
    report = facts(dagster.succeed("report"), "migration_report")
    assert report["report"] == (site.home / "reports/migration_report.html").as_uri()
    assert "dashboard" not in report


def test_thumbnails_of_transparent_pictures_are_on_white(tmp_path: Path) -> None:
    clear, grey = tmp_path / "clear.png", tmp_path / "grey.png"
    Image.new("RGBA", (60, 40), (0, 0, 0, 0)).save(clear)
    Image.new("LA", (60, 40), (0, 0)).save(grey)
    shown = before_after([MadeSample("logo.png", clear, grey, 1, 1)]).value or ""
    pictures = [Image.open(io.BytesIO(data)) for data in webp_pictures(shown)]
    assert [picture.getpixel((30, 20)) for picture in pictures] == [(255, 255, 255)] * 2


def test_a_migration_shows_what_it_did(make_site: MakeSite, dagster: Dagster) -> None:
    site = make_site(photos=3)
    dagster.succeed("inventory")
    result = dagster.succeed("migrate", FIRST)
    made, sent = facts(result, "processed_variants"), facts(result, "s3_objects")
    assert (made["dagster/partition_row_count"], made["done"], made["variants_made"]) == (3, 3, 18)
    assert (sent["dagster/partition_row_count"], sent["uploaded"], sent["reused"]) == (21, 21, 0)
    requests = {record["request"]: record["count"] for record in records(result, "s3_objects", "requests")}
    assert requests["PUT"] == 21
    rewritten = facts(result, "db_url_rewrites")
    assert (rewritten["dagster/partition_row_count"], rewritten["rewritten"]) == (3, 3)
    sizes = sum(path.stat().st_size for path in (site.uploads / "items").iterdir())
    assert rewritten["bytes_before"] == sizes
    assert rewritten["bytes_saved"] == sizes - rewritten["bytes_after"] > 0
    # $0.005 per 1,000 PUTs of us-east-1 (AWS's price list, 2026-11-20), which the proofs by HEAD add to.
    assert sent["requests_usd"] == pytest.approx(
        (21 * 0.005 + requests.get("HEAD", 0) * 0.0004) / 1000, abs=1e-6
    )
    assert min(each["photos_per_second"] for each in (made, sent, rewritten)) > 0
    samples = records(result, "db_url_rewrites", "sample")
    assert {record["before"] for record in samples} == {f"/uploads/items/{n}.jpg" for n in range(3)}
    assert {record["after"] for record in samples} == set(urls(site).values())
    checked = facts(result, "validation_report")
    assert (checked["passed"], checked["failed"], checked["urls_fetched"]) == (3, 0, 18)


@pytest.mark.slow
def test_thumbnails_are_few_small_pictures(make_site: MakeSite, dagster: Dagster) -> None:
    site = make_site(photos=7)
    for number in range(7):  # pure noise, which hardly compresses
        noise = np.random.default_rng(number).integers(0, 256, (150, 150, 3), dtype=np.uint8)
        Image.fromarray(noise).save(site.uploads / f"items/{number}.jpg", quality=98)
    dagster.succeed("inventory")
    shown = facts(dagster.succeed("migrate", FIRST), "processed_variants")["before_after"]
    pictures = webp_pictures(shown)
    assert len(pictures) == 12
    assert max(map(len, pictures)) <= 8_192
    assert all(max(Image.open(io.BytesIO(data)).size) <= 150 for data in pictures)


@pytest.mark.slow
def test_a_migration_again_says_that_everything_was_there(make_site: MakeSite, dagster: Dagster) -> None:
    make_site(photos=2)
    dagster.succeed("inventory")
    dagster.succeed("migrate", FIRST)
    again = dagster.succeed("migrate", FIRST)
    assert facts(again, "processed_variants")["variants_made"] == 0
    assert facts(again, "s3_objects")["uploaded"] == 0
    rewritten = facts(again, "db_url_rewrites")
    assert (rewritten["rewritten"], rewritten["already_done"]) == (0, 2)
    assert materialized(again, "db_url_rewrites").tags["url_target"] == "cdn"


def test_a_mended_photo_is_migrated_by_a_run_that_retries(make_site: MakeSite, dagster: Dagster) -> None:
    site = make_site(photos=2)
    whole = (site.uploads / "items/1.jpg").read_bytes()
    (site.uploads / "items/1.jpg").write_bytes(whole[:2_000])
    dagster.succeed("inventory")
    assert facts(dagster.succeed("migrate", FIRST), "processed_variants")["quarantined"] == 1
    (site.uploads / "items/1.jpg").write_bytes(whole)
    dagster.succeed("inventory")
    config = {"ops": {"processed_variants": {"config": {"retry_failed": True}}}}
    dagster.succeed("migrate", FIRST, run_config=config)
    assert site.states() == {"migrated": 2}


def test_a_rollback_with_an_empty_configuration_goes_back_all_the_same(
    make_site: MakeSite, dagster: Dagster
) -> None:
    site = make_site(photos=1)
    before = site.dump()
    dagster.succeed("inventory")
    dagster.succeed("migrate", FIRST)
    assert site.dump() != before
    forward = {"ops": {"db_url_rewrites": {"config": {"target": "cdn"}}}}  # the field's default
    back = dagster.succeed("rollback", FIRST, run_config=forward)
    assert materialized(back, "db_url_rewrites").tags["url_target"] == "local"
    assert site.dump() == before


def test_a_rewritten_row_without_a_proven_object_stops_the_run(make_site: MakeSite, dagster: Dagster) -> None:
    site = make_site(photos=2)
    dagster.succeed("inventory")
    dagster.succeed("migrate", FIRST)
    site.execute("UPDATE pp_object SET verified_at = NULL WHERE variant = 'thumb' AND format = 'webp'")
    result = dagster.run("migrate", FIRST)
    assert not result.success
    failed = {each.check_name: each for each in result.get_asset_check_evaluations() if not each.passed}
    assert set(failed) == {"no_dangling_url"}
    assert failed["no_dangling_url"].metadata["violations"].value == 2
    assert "items/0.jpg" in str(failed["no_dangling_url"].metadata["sample"].value)
    assert "validation_report" not in started(result)


@pytest.mark.slow
def test_a_variant_below_the_quality_floor_is_a_warning_that_stops_nothing(
    make_site: MakeSite, dagster: Dagster
) -> None:
    site = make_site(photos=2, quality={"sample": 0.02, "floor": 99.5})
    dagster.succeed("inventory")
    result = dagster.succeed("migrate", FIRST)
    (failed,) = [each for each in result.get_asset_check_evaluations() if not each.passed]
    assert (failed.check_name, failed.severity) == (
        "visual_quality_is_above_the_floor",
        dg.AssetCheckSeverity.WARN,
    )
    made = facts(result, "processed_variants")
    assert made["quality_measured"] == failed.metadata["checked"].value == 3
    assert 50 < made["quality_worst"] < made["quality_mean"] < 99.5
    assert failed.metadata["worst_score"].value == made["quality_worst"]
    assert "(avif)" in str(failed.metadata["sample"].value)
    assert site.states() == {"migrated": 2}
    again = facts(dagster.succeed("migrate", FIRST), "processed_variants")
    assert (again["quality_measured"], again["quality_reused"]) == (0, 3)
    assert again["quality_mean"] == made["quality_mean"]


def test_a_photo_left_behind_by_the_upload_stops_the_run_before_any_rewrite(
    make_site: MakeSite, dagster: Dagster
) -> None:
    """An unknown state, which no step takes forward, stands for a defect of ours."""
    site = make_site(photos=2)
    before = urls(site)
    dagster.succeed("inventory")
    site.execute("UPDATE pp_photo SET state = 'found' WHERE path = 'items/0.jpg'")
    result = dagster.run("migrate", FIRST)
    assert not result.success
    failed = [each.check_name for each in result.get_asset_check_evaluations() if not each.passed]
    assert failed == ["every_photo_is_uploaded_or_explained"]
    assert "db_url_rewrites" not in started(result)
    assert urls(site) == before


def test_a_failure_is_told_in_one_sentence_with_its_fix(
    make_site: MakeSite, dagster: Dagster, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_site(photos=1)
    monkeypatch.delenv("APP_DATABASE_URL")
    result = dagster.run("inventory")
    told = failure_of(result, "local_inventory")
    assert "APP_DATABASE_URL" in told.description
    assert "\n" not in told.description
    assert told.description.lower() == f"{told.thing}: {told.cause}. {told.fix}.".lower()
    assert told.kind == "ConfigurationError"
    assert "checksum_catalog" not in started(result)


def test_a_store_that_is_down_fails_the_run_and_changes_no_row(make_site: MakeSite, dagster: Dagster) -> None:
    site = make_site(photos=1)
    before = site.dump()
    dagster.succeed("inventory")
    site.configure(store=site.settings["store"] | {"endpoint_url": "http://127.0.0.1:9"})
    result = dagster.run("migrate", FIRST)
    told = failure_of(result, "s3_objects")
    assert told.kind == "StoreUnreachableError"
    assert told.runbook == "docs/runbooks/s3-outage.md"
    assert "127.0.0.1:9" in told.description
    assert site.dump() == before
    assert [tuple(row) for row in site.execute("SELECT state, lease_owner FROM pp_batch")] == [
        ("failed", None)
    ]


def test_a_batch_that_another_living_process_works_on_is_refused_until_it_ends(
    make_site: MakeSite, dagster: Dagster
) -> None:
    site = make_site(photos=1)
    before = site.dump()
    dagster.succeed("inventory")
    with held_by_another_process(FIRST) as pid:
        for job, step in (("migrate", "processed_variants"), ("rollback", "db_url_rewrites")):
            told = failure_of(dagster.run(job, FIRST), step)
            assert told.kind == "GuardRefusedError"
            assert f"/{pid}/other-run" in told.description
            assert "is working on it" in told.description
    assert site.dump() == before
    dagster.succeed("migrate", FIRST)


def test_a_batch_whose_worker_was_killed_is_taken_over_at_once(make_site: MakeSite, dagster: Dagster) -> None:
    site = make_site(photos=1)
    dagster.succeed("inventory")
    with held_by_another_process(FIRST, killed=True):
        pass
    ((owner,),) = site.execute("SELECT lease_owner FROM pp_batch")
    assert owner.endswith("/other-run")
    dagster.succeed("migrate", FIRST)


@contextmanager
def held_by_another_process(batch: str, *, killed: bool = False) -> Iterator[int]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, batch], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    try:
        yield holder.pid
    finally:
        if killed:
            holder.kill()
        holder.communicate()


def urls(site: Site) -> dict[str, str]:
    """What each row of the application points to, by its key."""
    return {row.id: row.original_url for row in site.execute("SELECT id, original_url FROM item_photos")}


def batch_rows(site: Site, batch: str) -> set[str]:
    """The keys of the application's rows in a batch."""
    rows = site.execute("SELECT row_key FROM pp_photo WHERE batch = :batch", batch=batch)
    return {json.loads(row.row_key)[0] for row in rows}
