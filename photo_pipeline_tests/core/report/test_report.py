"""The report says what is in the state tables, all of it, whatever the names in it and whatever is down."""

import csv
import io
import json
import re
import sqlite3
import tracemalloc
from contextlib import closing
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa

from photo_pipeline.core.catalog.tables import PhotoState, audit_table, photo_table, utc_now
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.errors import InfrastructureError
from photo_pipeline.core.project import Project
from photo_pipeline.core.report import html
from photo_pipeline.core.report.data import collect, from_json, to_json
from photo_pipeline.core.report.findings import fair_shares
from photo_pipeline.core.report.html import timeline
from photo_pipeline.core.report.photo_rows import COLUMNS
from photo_pipeline.core.report.pictures import compare_sample
from photo_pipeline.core.report.write import ReportFiles, write_report
from photo_pipeline_tests.core.report import conftest

NO_CDN = "http://127.0.0.1:9"  # the discard port: refuses at once


class _Page(HTMLParser):
    """A page's tags and its visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def _report(project: Project) -> ReportFiles:
    return write_report(project.database, project.config, project.cdn)


def _page(project: Project) -> _Page:
    return _Page(_report(project).html.read_text(encoding="utf-8"))


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _update(project: Project, where: Any, **values: Any) -> None:
    with project.database.write() as connection:
        connection.execute(sa.update(photo_table).where(where).values(**values))


def test_classes_add_up_in_the_report(migrated: Project) -> None:
    data = collect(migrated.database, migrated.config)

    assert data.inventory is not None
    assert data.adds_up
    assert sum(data.inventory.by_class.values()) == 14 == sum((data.photos or {}).values())
    assert (data.inventory.references, data.inventory.unreferenced_files) == (13, 1)
    assert "13 references + 1 unreferenced files = 14, in classes 14 ✓ adds up" in _page(migrated).text


def test_a_report_of_a_migration_counts_what_was_migrated_and_proven(migrated: Project) -> None:
    data = collect(migrated.database, migrated.config)

    assert (data.migrated, data.waiting, data.findings_total) == (7, 0, 7)
    assert data.verdict.level == "attention"
    assert data.verdict.sentence == (
        "7 of 13 photos are migrated, each of them proven through the CDN; 7 findings need a look."
    )
    assert (data.rewrites.applied, data.validation.passed, data.validation.failed) == (7, 7, 0)
    assert data.objects.verified == data.objects.total > 0
    assert [batch.state for batch in data.batches] == ["completed", "completed"]
    assert data.stores[0].verification == "checksum"


def test_sizes_count_each_content_once_and_leave_resized_copies_out(migrated: Project) -> None:
    uploads = migrated.config.roots[0].dir
    names = ["0.jpg", "1.jpg", "2.jpg", "3.jpg", conftest.HOSTILE_NAME]

    sizes = collect(migrated.database, migrated.config).sizes

    assert sizes.contents == 5
    assert sizes.source_bytes == sum((uploads / name).stat().st_size for name in names)
    assert (sizes.copies, sizes.copies_bytes) == (1, (uploads / "thumb-0.jpg").stat().st_size)
    assert {each.format: each.contents for each in sizes.by_format} == {"avif": 5, "webp": 5, "jpeg": 5}
    assert sizes.headline is not None
    assert sizes.headline.format == "jpeg"
    assert 0 < sizes.headline.saved_share < 1
    originals = sizes.source_bytes + sizes.copies_bytes
    assert sizes.stored_originals_bytes == originals


def test_variants_are_told_by_format_with_quality_and_encodes(migrated: Project) -> None:
    variants = collect(migrated.database, migrated.config).variants

    assert [(each.variant, each.format) for each in variants] == [
        *(("full", name) for name in ("avif", "webp", "jpeg")),
        *(("thumb", name) for name in ("avif", "webp", "jpeg")),
    ]
    for each in variants:
        assert each.files == 5
        assert each.mean_encodes >= 1
        assert sum(each.qualities.values()) == each.files
        assert each.median_quality == sorted(q for q, n in each.qualities.items() for _ in range(n))[2]


def test_each_failure_has_its_photo_its_cause_and_its_fix(migrated: Project) -> None:
    groups = {group.reason: group for group in collect(migrated.database, migrated.config).findings}

    assert {reason: group.count for reason, group in groups.items()} == {
        "corrupt": 1,
        "file_missing": 2,
        "unsupported_format": 1,
        "empty": 1,
        "outside_root": 1,
        "file_unreferenced": 1,
    }
    damaged = groups["corrupt"].findings[0]
    assert (damaged.source, damaged.row_key, damaged.field, damaged.path) == (
        "photos",
        "[5]",
        "url",
        "cut.jpg",
    )
    assert damaged.cause.startswith("it cannot be decoded as JPEG")
    assert damaged.fix == "Restore the file from a backup"
    assert all(group.fix and finding.cause for group in groups.values() for finding in group.findings)
    assert groups["file_unreferenced"].findings[0].source is None


def test_a_conflict_and_a_failed_validation_are_findings(migrated: Project) -> None:
    photo, detail = photo_table.c, "photos [2] url: the application changed the value. Or so."
    _update(migrated, photo.path == "1.jpg", state="conflict", error_type="conflict", error_detail=detail)
    with migrated.database.write() as connection:
        failing = sa.text(
            'UPDATE pp_validation SET ok = 0, problems = \'["HTTP 404", "gone"]\' '
            "WHERE photo_id = (SELECT id FROM pp_photo WHERE path = '2.jpg')"
        )
        connection.execute(failing)

    data = collect(migrated.database, migrated.config)

    assert [group.reason for group in data.findings[:2]] == ["validation_failed", "conflict"]
    assert data.findings[0].findings[0].cause == "HTTP 404; gone"
    assert data.findings[1].findings[0].cause == "the application changed the value. Or so"
    assert data.verdict.level == "bad"
    assert "1 of them failed validation" in data.verdict.sentence


def test_a_report_before_any_inventory_says_so(fresh: Project) -> None:
    files = _report(fresh)

    assert "No inventory has been taken yet" in files.html.read_text(encoding="utf-8")
    assert from_json(files.json.read_text(encoding="utf-8")).status == "not_started"
    assert _csv(files.csv) == []


def test_a_report_with_nothing_migrated_says_what_could_be(fresh: Project) -> None:
    conftest.inventory(fresh)

    page = _page(fresh).text

    assert "Nothing is migrated yet: 8 of 13 photos can be migrated; 6 findings need a look." in page
    assert "No photo is migrated, so there is nothing to compare." in page
    assert "No variants yet." in page


def test_a_report_after_a_rollback_says_that_rows_are_local_again(migrated: Project) -> None:
    conftest.roll_back(migrated)

    data = collect(migrated.database, migrated.config)

    assert data.verdict.sentence.startswith("Rolled back: 7 photos have their local value again")
    assert (data.migrated, data.rewrites.rolled_back, data.sizes.contents) == (0, 7, 0)
    assert "Rolled back" in _page(migrated).text


def test_hostile_names_keys_and_errors_are_escaped(migrated: Project) -> None:
    attack = "\"'><script>alert(3)</script><svg onload=alert(4)>"
    _update(migrated, photo_table.c.path == "cut.jpg", error_detail=attack, error_type=attack)
    with migrated.database.write() as connection:
        connection.execute(sa.text("UPDATE pp_batch SET error = :attack"), {"attack": attack})

    page = _page(migrated)

    assert len(page.all("script")) == 1
    assert not [tag for tag, attributes in page.tags if any(name.startswith("on") for name in attributes)]
    assert not [image for image in page.all("img") if not (image["src"] or "").startswith("data:image/")]
    for shown in (attack, conftest.HOSTILE_NAME, conftest.HOSTILE_VALUE, "<b>anna"):
        assert shown in page.text


def test_the_page_loads_nothing_and_links_only_to_the_cdn(migrated: Project) -> None:
    hostile = photo_table.c.path == "3.jpg"
    _update(migrated, hostile, new_value="javascript:alert(1)//photos/")

    files = _report(migrated)
    page = _Page(files.html.read_text(encoding="utf-8"))

    sources = [
        attributes[name] or "" for _, attributes in page.tags for name in ("src",) if name in attributes
    ]
    assert sources
    assert all(each.startswith("data:image/") for each in sources)
    links = [each["href"] or "" for each in page.all("a")]
    assert all(link.startswith(("#", f"{migrated.config.cdn.base_url}/report/photos/")) for link in links)
    assert not page.all("link")
    styles = re.search(r"<style>(.*)</style>", files.html.read_text(encoding="utf-8"), re.DOTALL)
    assert styles
    assert "url(" not in styles[1]
    assert "@import" not in styles[1]


def test_the_policy_in_the_page_allows_its_own_script_only(migrated: Project) -> None:
    text = _report(migrated).html.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL)

    assert script
    assert f"script-src 'sha256-{html._digest(script[1])}'" in text


def test_headings_tables_and_pictures_are_named_for_screen_readers(migrated: Project) -> None:
    page = _page(migrated)

    assert len(page.all("h1")) == 1
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(image["alt"] for image in page.all("img"))
    assert all(slider["aria-label"] for slider in page.all("input"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_before_and_after_show_the_original_and_what_the_cdn_delivers(migrated: Project) -> None:
    pairs = compare_sample(migrated.database, migrated.config, migrated.cdn)

    assert len(pairs) == 5
    assert all(pair.before.data_uri and pair.after.data_uri for pair in pairs)
    first = next(pair for pair in pairs if pair.path == "0.jpg")
    assert (first.before.width, first.before.height) == (320, 240)
    assert (first.after.width, first.format) == (160, "jpeg")
    assert first.after.bytes == len(migrated.cdn.fetch(first.url or "").body)
    avatar = next(pair for pair in pairs if pair.path == "3.jpg")
    assert avatar.format == "webp"
    assert (avatar.url or "").endswith("/full.webp")


def test_an_unreachable_cdn_still_gives_a_report(migrated: Project) -> None:
    config = conftest.moved(migrated.config, cdn=NO_CDN)
    _update(migrated, photo_table.c.new_value.like("http%"), new_value=sa.func.replace(
        photo_table.c.new_value, migrated.config.cdn.base_url, NO_CDN
    ))  # fmt: skip

    files = write_report(migrated.database, config, Cdn(NO_CDN))

    page = _Page(files.html.read_text(encoding="utf-8"))
    assert "it does not answer" in page.text
    assert "7 of 13 photos are migrated" in page.text
    # The originals: five before/after pairs, and the five worst.
    assert len(page.all("img")) == 10


def test_a_missing_or_changed_local_file_is_told_in_its_picture_place(
    migrated: Project, tmp_path: Path
) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (uploads / "0.jpg").write_bytes(b"something else")
    config = conftest.moved(migrated.config, uploads=uploads)

    pairs = {p.path: p for p in compare_sample(migrated.database, config, migrated.cdn)}

    assert pairs["0.jpg"].before.problem == "The local file is no longer the one that was migrated."
    assert pairs["2.jpg"].before.problem == "The local file is gone."
    assert pairs["2.jpg"].before.bytes
    assert all(pair.after.data_uri for pair in pairs.values())


def test_json_round_trips(migrated: Project) -> None:
    data = collect(migrated.database, migrated.config)

    assert from_json(to_json(data)) == data
    document = json.loads(_report(migrated).json.read_text(encoding="utf-8"))
    assert document["inventory"]["by_class"]["matched"] == 8
    assert document["photos"]["migrated"] == 7
    assert document["verdict"]["level"] == "attention"


def test_csv_rows_are_the_rows_of_pp_photo(migrated: Project) -> None:
    rows = _csv(_report(migrated).csv)

    with migrated.database.read() as connection:
        photos = connection.execute(sa.select(photo_table).order_by(photo_table.c.id)).mappings().all()
    assert len(rows) == len(photos) == 14
    for row, photo in zip(rows, photos, strict=True):
        for name in COLUMNS:
            stored = "" if photo[name] is None else str(photo[name])
            assert row[name] == (f"'{stored}" if stored.startswith("=") else stored)


def test_parquet_has_the_same_rows_with_their_types(migrated: Project) -> None:
    files = _report(migrated)
    table = pq.read_table(files.parquet)
    assert tuple(table.column_names) == COLUMNS
    assert (str(table.schema.field("size").type), str(table.schema.field("path").type)) == ("int64", "string")
    as_text = [{n: "" if v is None else str(v) for n, v in row.items()} for row in table.to_pylist()]
    assert as_text == [{n: v.removeprefix("'") for n, v in row.items()} for row in _csv(files.csv)]


def test_the_report_tells_what_requests_cost_and_that_the_audit_log_is_unbroken(migrated: Project) -> None:
    files = _report(migrated)
    data = from_json(files.json.read_text(encoding="utf-8"))
    assert data.audit is not None
    assert data.audit.holds
    (month,) = data.costs.months
    # $0.005 per 1,000 PUTs, $0.0004 per 1,000 others: AWS's price list of us-east-1, 2026-11-20.
    dollars = (month.used["puts"] * 0.005 + month.used["gets"] * 0.0004) / 1000
    assert month.used["puts"] > data.objects.total - 1
    assert data.costs.requests_usd == pytest.approx(dollars)
    page = files.html.read_text(encoding="utf-8")
    assert data.audit.head in page
    assert month.month in page
    _update_audit(migrated)
    assert "broken" in _report(migrated).html.read_text(encoding="utf-8")


def _update_audit(project: Project) -> None:
    with project.database.write() as connection:
        connection.execute(
            sa.update(audit_table).where(audit_table.c.seq == 1).values(subject="somebody else")
        )


def test_the_timeline_shows_each_step_between_its_first_and_last_instant() -> None:
    at = datetime(2026, 11, 27, 12, tzinfo=UTC)
    later, end = at + timedelta(minutes=3), at + timedelta(minutes=4)
    assert timeline([("a", at, later), ("b", later, end)]) == [("a", 0.0, 0.75), ("b", 0.75, 0.25)]
    assert timeline([("a", at, at)]) == [("a", 0.0, 0.0)]


def test_a_csv_cell_cannot_be_a_formula(migrated: Project) -> None:
    attacks = [f"{start}cmd|' /C calc'!A0" for start in ("=", "+", "-", "@", "\t", "\r", "\n")]
    for photo_id, attack in enumerate(attacks, start=1):
        _update(migrated, photo_table.c.id == photo_id, error_detail=attack)

    rows = _csv(_report(migrated).csv)

    assert [row["error_detail"] for row in rows[: len(attacks)]] == [f"'{attack}" for attack in attacks]


def test_findings_are_capped_and_their_totals_are_not(migrated: Project) -> None:
    data = collect(migrated.database, migrated.config, max_findings=4)

    assert data.findings_total == 7
    assert sum(len(group.findings) for group in data.findings) == 4
    assert "3 more" not in html.render(collect(migrated.database, migrated.config), migrated.config)
    assert "4 of them are listed here" in _Page(html.render(data, migrated.config)).text


def test_a_large_group_of_findings_does_not_crowd_out_small_ones() -> None:
    assert fair_shares({"missing": 1_000_000, "corrupt": 3, "empty": 40}, 100) == {
        "corrupt": 3,
        "empty": 40,
        "missing": 57,
    }


def test_memory_stays_flat_for_many_photos(fresh: Project) -> None:
    conftest.inventory(fresh)
    _report(fresh)  # compiles the templates
    columns = {"class": "file_missing", "state": PhotoState.FOUND, "scan": "x", "updated_at": utc_now()}
    row = columns | {"source": "photos", "row_key": "[1]", "field": "url", "value": "/uploads/" + "x" * 900}
    with fresh.database.write() as connection:
        connection.execute(
            sa.insert(photo_table), [row | {"reference_id": str(number)} for number in range(20_000)]
        )

    tracemalloc.start()
    files = _report(fresh)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert files.csv.stat().st_size > 18_000_000
    assert peak < 9_000_000
    assert files.html.stat().st_size < 1_500_000


def test_a_report_folder_that_cannot_be_written_is_named(migrated: Project) -> None:
    migrated.config.state.report_dir.parent.mkdir(parents=True)
    migrated.config.state.report_dir.write_text("a file, not a folder")

    with pytest.raises(InfrastructureError, match="the report cannot be written there"):
        _report(migrated)


def test_an_earlier_report_is_replaced_as_a_whole(migrated: Project) -> None:
    first = _report(migrated)
    with closing(sqlite3.connect(migrated.database.engine.url.database or "")) as connection, connection:
        connection.execute("DELETE FROM pp_photo WHERE source IS NULL")

    second = _report(migrated)

    assert first == second
    assert len(_csv(second.csv)) == 13
    assert sorted(path.name for path in second.html.parent.iterdir()) == [
        "migration_report.html",
        "migration_report.json",
        "photos.csv",
        "photos.parquet",
    ]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KB"), (102_400, "100 KB"), (3 * 1024**3, "3.0 GB")],
)
def test_sizes_are_binary_as_in_the_configuration(value: int, shown: str) -> None:
    assert html.size(value) == shown


def test_almost_everything_is_not_shown_as_everything() -> None:
    assert [html.percent(share) for share in (1, 0.999, 0.5, 0.004, 0)] == [
        *("100 %", "99.9 %", "50 %", "0.4 %", "0 %"),
    ]


def test_a_row_key_is_shown_without_its_json() -> None:
    assert [html.row_key(key) for key in ('["a", 3]', "not json", "5", None)] == ["a, 3", "not json", "5", ""]


def test_the_csv_header_is_documented_order(fresh: Project) -> None:
    text = _report(fresh).csv.read_text(encoding="utf-8")

    assert tuple(next(csv.reader(io.StringIO(text)))) == COLUMNS
