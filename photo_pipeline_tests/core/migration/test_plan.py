"""A plan on small real sites: exact where it says so, honest where it guesses, and without a trace."""

import hashlib
import json
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from photo_pipeline.cli.program import app
from photo_pipeline.core.catalog.tables import metadata
from photo_pipeline.core.migration.plan import Plan, make_plan
from photo_pipeline.core.migration.sampling import Estimate, Stratum, draw, share_at_most, total
from photo_pipeline.core.project import open_scratch, worker_count
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, uploaded
from photo_pipeline_tests.core.migration.test_documents import bodies, json_source, posts
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo


def planned(site: Site, **options: int) -> Plan:
    with site.project() as project, closing(open_scratch(project.config)) as database:
        return make_plan(
            database, project.config, project.workers, processes=worker_count(project.config), **options
        )


def varied_site(make_site: MakeSite, database: str) -> Site:
    """12 pictures of very different sizes, one of them twice, one row without its file, one spare file."""
    rows = [item_photo(n, f"/uploads/items/{n}.jpg") for n in range(12)]
    rows += [item_photo(12, "/uploads/items/gone.jpg"), item_photo(13, "/uploads/items/twin.jpg")]
    site = make_site(photos=0, rows=rows, database=database)
    for number in range(12):
        photo(site.uploads / f"items/{number}.jpg", width=200 + 90 * number, height=240, seed=number)
    (site.uploads / "items/twin.jpg").write_bytes((site.uploads / "items/3.jpg").read_bytes())
    photo(site.uploads / "items/spare.jpg", seed=99)
    return site


@MOSTLY_SQLITE
def test_the_plan_counts_what_the_migration_then_does(
    make_site: MakeSite, database: str, s3_access_log: Path
) -> None:
    site = varied_site(make_site, database)

    plan = planned(site, sample=6)
    (outcome,) = site.migrate()

    with site.project() as project:
        taken, _ = site.inventory(project)
    assert plan.inventory.by_class["matched"] == 13 == outcome.rewritten.rewritten
    assert plan.inventory.by_class["file_missing"] == taken.by_class["file_missing"] == 1
    assert plan.inventory.by_class["file_unreferenced"] == taken.by_class["file_unreferenced"] == 1
    assert (plan.photos, plan.rows, plan.contents, plan.batches) == (13, 13, 12, 1)
    assert plan.put_requests == outcome.uploaded.uploaded == len(site.puts(s3_access_log))
    assert sum(plan.sample.encoded.values()) == 6
    assert plan.upload_bytes.standard_error > 0
    assert plan.upload_bytes.low <= outcome.uploaded.bytes <= plan.upload_bytes.high
    assert plan.variant_bytes.low <= outcome.processed.variant_bytes <= plan.variant_bytes.high


@pytest.mark.slow
def test_a_sample_of_everything_is_exact(make_site: MakeSite) -> None:
    site = varied_site(make_site, "sqlite")

    plan = planned(site, sample=100)
    (outcome,) = site.migrate()

    assert plan.upload_bytes.value == outcome.uploaded.bytes
    assert plan.upload_bytes.low == plan.upload_bytes.high
    assert plan.sample.quarantined_share_at_most == 0


def traces(site: Site) -> dict[str, object]:
    """Everything that a plan could leave behind: database, files, store."""
    engine = site.engine()
    tables = sorted(sa.inspect(engine).get_table_names())
    with engine.connect() as connection:
        rows = {
            name: sorted(repr(tuple(row)) for row in connection.execute(sa.text(f'SELECT * FROM "{name}"')))
            for name in tables
        }
    engine.dispose()
    files = {
        str(path.relative_to(site.home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(site.home.rglob("*"))
        if path.is_file()
    }
    return {"rows": rows, "files": files}


@MOSTLY_SQLITE
@pytest.mark.parametrize("when", ["before the first migration", "half way"])
def test_nothing_is_written_anywhere(
    make_site: MakeSite, database: str, when: str, s3_access_log: Path
) -> None:
    site = make_site(photos=3, database=database)
    if when == "half way":
        uploaded(site)
        photo(site.uploads / "items/9.jpg", seed=9)
        site.execute("UPDATE item_photos SET original_url = '/uploads/items/9.jpg' WHERE item_id = 1")
    before, log = traces(site), s3_access_log.read_bytes()

    plan = planned(site, sample=4)

    assert traces(site) == before
    assert s3_access_log.read_bytes() == log
    assert plan.photos == 3
    assert plan.put_requests > 0


def test_without_the_temporary_tables_a_plan_would_leave_traces(make_site: MakeSite) -> None:
    """The control of the test above."""
    site = make_site(photos=1)
    before = traces(site)
    with site.project() as project:
        make_plan(project.database, project.config, project.workers, processes=2, sample=2)
    assert traces(site) != before


@MOSTLY_SQLITE
def test_no_write_would_get_past_the_connection_of_a_plan(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=1, database=database)
    before = traces(site)
    with (
        site.project() as project,
        closing(open_scratch(project.config)) as scratch,
        scratch.engine.connect() as connection,
    ):
        edit = sa.text("UPDATE item_photos SET alt = 'changed'")
        with pytest.raises(sa.exc.DBAPIError, match=r"read.?only"):
            connection.execute(edit)
    assert traces(site) == before


@MOSTLY_SQLITE
def test_the_state_tables_of_a_plan_hide_the_real_ones(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=1, database=database)
    migrated(site)
    with site.project() as project, closing(open_scratch(project.config)) as scratch:
        for table in metadata.sorted_tables:
            with scratch.write() as connection:
                connection.execute(sa.delete(table))
    assert site.states() == {"migrated": 1}


def test_what_is_migrated_already_is_not_planned_again(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    migrated(site)
    plan = planned(site, sample=2)
    assert (plan.photos, plan.put_requests, plan.upload_bytes.value) == (0, 0, 0)
    assert plan.inventory.by_class["already_migrated"] == 2


@MOSTLY_SQLITE
def test_a_row_that_its_application_took_back_is_planned_again(make_site: MakeSite, database: str) -> None:
    site = make_site(photos=2, database=database)
    migrated(site)
    site.execute("UPDATE item_photos SET original_url = '/uploads/items/0.jpg' WHERE alt = 'photo 0'")
    plan = planned(site, sample=2)
    assert (plan.photos, plan.put_requests) == (1, 0)


@MOSTLY_SQLITE
def test_rows_are_shown_exactly_as_they_then_become(make_site: MakeSite, database: str) -> None:
    rewrite = ITEM_PHOTOS["rewrite"]
    looks = rewrite | {"write_back": rewrite["write_back"] | {"alt": "placeholder"}}
    site = make_site(photos=2, database=database, sources=[ITEM_PHOTOS | {"rewrite": looks}])
    plan = planned(site, sample=2, rows_shown=2)
    site.migrate()
    for row in plan.rows_shown:
        (key,) = json.loads(row.row_key)
        ((after,),) = (
            [tuple(str(v) for v in r)]
            for r in site.execute(
                "SELECT original_url, file_size, mime_type, width, alt FROM item_photos WHERE id = :id",
                id=key,
            )
        )
        shown = {change.column: change.after for change in row.changes}
        names = ("original_url", "file_size", "mime_type", "width", "alt")
        assert tuple(shown[name] for name in names) == after
        assert {c.column: c.before for c in row.changes}["file_size"] == "NULL"


def test_a_document_is_shown_with_all_its_photos_also_those_that_were_not_drawn(make_site: MakeSite) -> None:
    gallery = json.dumps([{"url": f"/uploads/items/{number}.jpg", "alt": "x" * 60} for number in range(3)])
    site = posts(make_site, json_source(), gallery)
    plan = planned(site, sample=2, rows_shown=1)
    said = CliRunner().invoke(app, ["plan", "--sample", "2", "--rows", "1"], catch_exceptions=False)
    site.migrate()
    (change,) = plan.rows_shown[0].changes
    assert [change.after] == bodies(site)
    # Both are shown from where they differ.
    assert '- [{"url": "/uploads/items/0.jpg", "alt"' in said.stdout
    assert '+ [{"url": "http' in said.stdout


def test_a_photo_that_cannot_be_processed_is_reckoned_with(make_site: MakeSite) -> None:
    site = make_site(photos=6)
    broken = site.uploads / "items/2.jpg"
    broken.write_bytes(broken.read_bytes()[:4_000])

    plan = planned(site, sample=10)
    (outcome,) = site.migrate()

    assert list(plan.sample.failures) == ["items/2.jpg"]
    assert plan.expected_puts.value == outcome.uploaded.uploaded < plan.put_requests
    assert plan.upload_bytes.value == outcome.uploaded.bytes


def test_the_command_prints_figures_and_one_json_document(make_site: MakeSite) -> None:
    make_site(photos=3)
    said = CliRunner().invoke(app, ["plan", "--sample", "2"], catch_exceptions=False)
    assert said.exit_code == 0
    assert "every picture was encoded" not in said.stdout
    assert "objects to upload = PUT requests" in said.stdout
    assert "95 % interval" in said.stdout
    assert "2,000 PUTs a month" in said.stdout
    assert "Nothing was written" in said.stdout
    told = CliRunner().invoke(app, ["plan", "--sample", "2", "--json"], catch_exceptions=False)
    document = json.loads(told.stdout)["plan"]
    assert document["photos"] == 3
    assert document["upload_bytes"]["low"] <= document["upload_bytes"]["value"]
    assert document["cost"]["free_tier_puts_per_month"] == 2_000


def test_a_plan_refuses_state_tables_that_it_would_have_to_upgrade(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    site.execute("UPDATE pp_alembic_version SET version_num = '0003'")
    said = CliRunner().invoke(app, ["plan"])
    assert said.exit_code == 2
    assert "photo-pipeline status" in said.stderr


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Over 400 samples of a skewed population; with the spread left out, nearly none would."""
    population = [(name, float((n * 37) % 101) ** 2) for name in "ab" for n in range(200)]
    truth = sum(value for _, value in population)
    covered = 0
    for seed in range(400):
        drawn = draw(population, stratum=lambda each: each[0], size=40, seed=seed)
        strata = {k: Stratum(200, tuple(value for _, value in group)) for k, group in drawn.items()}
        estimate = total(strata)
        covered += estimate.low <= truth <= estimate.high
    assert 0.92 <= covered / 400 <= 0.99


def test_what_is_taken_away_keeps_its_error_and_the_order_of_its_interval() -> None:
    assert Estimate(5, 1, 3, 7).times(-2) == Estimate(-10, 2, -14, -6)


def test_a_sample_without_a_failure_does_not_promise_that_there_is_none() -> None:
    assert share_at_most(0, 50, 10_000) == pytest.approx(0.0713, abs=0.001)
    assert share_at_most(0, 50, 50) == 0
