"""Inventories, batches and the application at work at the same time: nothing is lost, nothing is guessed.

Each test stops one part at a definite point (between two steps, at the first request to the store or the
CDN, after a photo's checksum) and lets another act there. No sleeps, no threads of its own.
"""

import copy
import hashlib
import io
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
import urllib3
from PIL import Image

from photo_pipeline.core.catalog.inventory import take_inventory
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.delivery.cdn import Cdn, Delivered
from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline.core.imaging.pool import ImageWorkers
from photo_pipeline.core.migration.invariants import every_rewritten_row_is_backed
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.core.migration.rewrite import rewrite_batch
from photo_pipeline.core.migration.run import migrate_batch, new_run_id
from photo_pipeline.core.migration.selection import batches_to_validate
from photo_pipeline.core.migration.state import settle_forward
from photo_pipeline.core.migration.upload import upload_batch
from photo_pipeline.core.migration.validate import validate_batch
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.store import PhotoStore
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import (
    again,
    migrated,
    quick_workers,
    rewritten,
    uploaded,
)
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo

ORIGINALS = pytest.mark.parametrize("originals", ["keep", "discard"])
COLUMNS = ("original_url", "alt", "thumbnail_url")


def source(second_role: str | None = None, **changes: Any) -> dict[str, Any]:
    """The application's mapping, with `alt` as one more photo field in that role."""
    fields: list[dict[str, Any]] = copy.deepcopy(ITEM_PHOTOS["fields"])
    if second_role is not None:
        second = {"kind": "url", "column": "alt", "root": "uploads", "role": second_role, "variant": "full"}
        fields.insert(1, second)
    return ITEM_PHOTOS | {"fields": fields} | changes


def forward(site: Site) -> list[str]:
    """The inventory and every open batch, without validation and with variants that cost no encoding."""
    keys = uploaded(site)
    for key in keys:
        rewritten(site, key)
    return keys


def named_urls(site: Site) -> dict[str, str]:
    """Every CDN address that a photo column of any row says, by column and row."""
    rows = site.execute(f"SELECT id, {', '.join(COLUMNS)} FROM item_photos")
    return {
        f"{row[0][-2:]} {column}": value
        for row in rows
        for column, value in zip(COLUMNS, row[1:], strict=True)
        if value and value.startswith("http://127.0.0.1")
    }


def assert_every_named_url_answers(site: Site) -> None:
    answers = {where: urllib3.request("GET", url).status for where, url in named_urls(site).items()}
    assert set(answers.values()) <= {200}, answers


def value(site: Site, column: str = "original_url", number: int = 0) -> Any:
    key = item_photo(number, None)["id"]
    ((found,),) = site.execute(f"SELECT {column} FROM item_photos WHERE id = :k", k=key)
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def pixels(data: bytes) -> Any:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(float)


def shows(site: Site, number: int, picture: bytes) -> bool:
    """Whether the row's URL delivers that picture (another one differs by far more than JPEG does)."""
    delivered = pixels(urllib3.request("GET", value(site, number=number)).data)
    return float(np.abs(delivered.mean((0, 1)) - pixels(picture).mean((0, 1))).max()) < 3


def migrate_named(site: Site, batch: str) -> None:
    with site.project() as project:
        migrate_quickly(project, batch)


def migrate_quickly(project: Project, batch: str) -> None:
    """Process, upload and rewrite one batch, as the pipeline does, without encoding."""
    database, config = project.database, project.config
    with BatchLease(database, batch, run=new_run_id()) as lease:
        process_batch(database, config, lease, quick_workers)
        upload_batch(database, config, lease, project.store, quick_workers)
        rewrite_batch(database, config, lease, project.store, project.cdn)
        settle_forward(database, lease)


class Once:
    """Runs an action the first time it is called."""

    def __init__(self, action: Callable[[], Any]) -> None:
        self._waiting = [action]

    def __call__(self) -> None:
        if self._waiting:
            self._waiting.pop()()


class MeanwhileCdn(Cdn):
    """A CDN; something happens just before its first answer."""

    def __init__(self, base_url: str, action: Callable[[], Any]) -> None:
        super().__init__(base_url)
        self._once = Once(action)

    def fetch(self, url: str, **options: Any) -> Delivered:
        self._once()
        return super().fetch(url, **options)


class TappedWorkers:
    """A pool; something happens to each photo when its checksum was compared and before it is decoded."""

    def __init__(
        self, pool: ImageWorkers, before: Callable[[Path], Any], after: Callable[[], Any] = lambda: None
    ) -> None:
        self._pool, self._before, self._after = pool, before, after

    def process(self, tasks: Iterable[Any]) -> Iterator[Any]:
        for done in self._pool.process(self._tapped(tasks)):
            self._after()
            yield done

    def _tapped(self, tasks: Iterable[Any]) -> Iterator[Any]:
        for task in tasks:
            self._before(task.source)
            yield task


def tapped(
    opener: Callable[[], AbstractContextManager[ImageWorkers]],
    *,
    before: Callable[[Path], Any] = lambda path: None,
    after: Callable[[], Any] = lambda: None,
) -> Any:
    """Return an opener of the same pool with something happening before and after each photo."""

    @contextmanager
    def opened() -> Iterator[TappedWorkers]:
        with opener() as pool:
            yield TappedWorkers(pool, before, after)

    return opened


# Rows and the photos they show


@pytest.mark.slow
def test_a_copy_never_names_a_photo_that_is_not_in_the_store(make_site: MakeSite) -> None:
    row = item_photo(0, "/uploads/bad.jpg", "/uploads/t.jpg") | {"alt": "/uploads/ok.jpg"}
    site = make_site(photos=0, sources=[source("primary")], rows=[row])
    photo(site.uploads / "ok.jpg", width=64, height=48, seed=1)
    photo(site.uploads / "t.jpg", width=32, height=24, seed=2)
    whole = photo(site.uploads / "bad.jpg", width=64, height=48, seed=3)
    whole.write_bytes(whole.read_bytes()[:300])
    site.migrate()
    assert_every_named_url_answers(site)
    assert value(site) == "/uploads/bad.jpg"
    assert value(site, "alt").startswith("http")
    with site.project() as project:
        assert every_rewritten_row_is_backed(project.database, project.config, "batch-000001").holds


@pytest.mark.slow
def test_a_primary_exchanged_after_the_inventory_leads_nobody_to_the_old_one(make_site: MakeSite) -> None:
    row = item_photo(0, "/uploads/a.jpg", "/uploads/t.jpg") | {"alt": "/uploads/b.jpg"}
    site = make_site(photos=0, sources=[source("duplicate")], rows=[row])
    for seed, name in enumerate("abct"):
        photo(site.uploads / f"{name}.jpg", width=32, height=24, seed=seed)
    with site.project() as project:
        site.inventory(project)
    site.execute("UPDATE item_photos SET original_url = '/uploads/c.jpg'")
    for _ in range(2):
        forward(site)
    assert_every_named_url_answers(site)
    assert sha256(site.uploads / "c.jpg") in value(site)
    assert sha256(site.uploads / "b.jpg") in value(site, "alt")
    assert value(site, "thumbnail_url") in (
        "/uploads/t.jpg",
        value(site).replace("/full.jpg", "/thumb.jpg"),
    )


def site_with_a_copy_whose_primary_is_in_a_later_batch(make_site: MakeSite) -> Site:
    site = make_site(photos=0, rows=[item_photo(0, "/uploads/a.jpg", "/uploads/t.jpg")])
    for seed, name in enumerate("act"):
        photo(site.uploads / f"{name}.jpg", width=32, height=24, seed=seed)
    with site.project() as project:
        site.inventory(project)
    site.execute("UPDATE item_photos SET original_url = '/uploads/c.jpg'")
    return site


def assert_the_copy_shows_its_primary(site: Site) -> None:
    assert sha256(site.uploads / "c.jpg") in value(site)
    assert value(site, "thumbnail_url") == value(site).replace("/full.jpg", "/thumb.jpg")
    assert_every_named_url_answers(site)
    assert site.states() == {"migrated": 2, "superseded": 1}


@pytest.mark.slow
def test_a_copy_follows_its_primary_into_another_batch_when_it_is_tried_again(make_site: MakeSite) -> None:
    site = site_with_a_copy_whose_primary_is_in_a_later_batch(make_site)
    for _ in range(2):
        site.migrate(retry_failed=True)
    assert_the_copy_shows_its_primary(site)


def test_a_copy_whose_primary_comes_in_a_later_batch_waits_for_it_and_is_no_failure(
    make_site: MakeSite,
) -> None:
    site = site_with_a_copy_whose_primary_is_in_a_later_batch(make_site)
    for _ in range(2):
        forward(site)
    assert_the_copy_shows_its_primary(site)


def duplicates(site_rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Settings of a site whose rows have a primary and a duplicate photo, and keep the primary's SHA-256."""
    fields = source("duplicate")["fields"][:2]
    rewrite = {"mode": "url", "format": "jpeg", "write_back": {"mime_type": "sha256"}}
    return {
        "photos": 0,
        "rows": site_rows,
        "sources": [ITEM_PHOTOS | {"fields": fields, "rewrite": rewrite}],
    }


@pytest.mark.slow
def test_a_duplicate_that_comes_later_does_not_replace_the_primarys_facts(make_site: MakeSite) -> None:
    site = make_site(**duplicates([item_photo(0, "/uploads/a.jpg") | {"alt": None}]))
    for seed, name in enumerate("ab"):
        photo(site.uploads / f"{name}.jpg", width=32, height=24, seed=seed)
    forward(site)
    assert value(site, "mime_type") == sha256(site.uploads / "a.jpg")
    site.execute("UPDATE item_photos SET alt = '/uploads/b.jpg'")
    forward(site)
    assert sha256(site.uploads / "b.jpg") in value(site, "alt")
    assert value(site, "mime_type") == sha256(site.uploads / "a.jpg")


def test_a_duplicate_alone_writes_no_facts_back(make_site: MakeSite) -> None:
    site = make_site(**duplicates([item_photo(0, None) | {"alt": "/uploads/b.jpg"}]))
    photo(site.uploads / "b.jpg", width=32, height=24)
    forward(site)
    assert sha256(site.uploads / "b.jpg") in value(site, "alt")
    assert value(site, "mime_type") is None


# Files that change under the pipeline


def overwriting(path: Path) -> Path:
    """Let the application save another picture under that name (same size, another tint)."""
    return photo(path, width=64, height=48, seed=7)


def small_photo(site: Site, number: int, *, seed: int = 0) -> Path:
    return photo(site.uploads / f"items/{number}.jpg", width=64, height=48, seed=seed)


def migrate_while_overwritten(site: Site) -> Path:
    """Migrate; the first photo that is processed is overwritten after its checksum. Return its path."""
    seen: list[Path] = []

    def once(path: Path) -> None:
        if not seen:
            seen.append(path)
            overwriting(path)

    with site.project() as project:
        site.inventory(project)
        project.workers = tapped(project.workers, before=once)  # type: ignore[method-assign]
        migrate_batch(project, "batch-000001", run=new_run_id())
    (path,) = seen
    return path


@ORIGINALS
def test_a_photo_overwritten_after_its_checksum_is_quarantined_and_proves_nothing(
    make_site: MakeSite, originals: str
) -> None:
    site = make_site(photos=0, rows=[item_photo(0, "/uploads/items/0.jpg")])
    site.configure(store=site.settings["store"] | {"originals": originals})
    small_photo(site, 0)
    changed = migrate_while_overwritten(site)
    assert site.execute("SELECT state, error_type FROM pp_photo WHERE source IS NOT NULL") == [
        ("quarantined", "changed_on_disk")
    ]
    assert value(site) == "/uploads/items/0.jpg"
    assert site.execute("SELECT key FROM pp_object WHERE verified_at IS NOT NULL") == []
    site.migrate(retry_failed=True)
    assert site.states() == {"migrated": 1}
    assert shows(site, 0, changed.read_bytes())


@ORIGINALS
def test_the_twin_of_a_photo_overwritten_after_its_checksum_shows_its_own_picture(
    make_site: MakeSite, originals: str
) -> None:
    site = make_site(photos=0, rows=[item_photo(n, f"/uploads/items/{n}.jpg") for n in range(2)])
    site.configure(store=site.settings["store"] | {"originals": originals})
    small_photo(site, 0)
    shutil.copy(site.uploads / "items/0.jpg", site.uploads / "items/1.jpg")
    picture = (site.uploads / "items/0.jpg").read_bytes()
    changed = migrate_while_overwritten(site)
    (twin,) = {0, 1} - {int(changed.stem)}
    assert site.execute("SELECT path, state, error_type FROM pp_photo WHERE state <> 'migrated'") == [
        (f"items/{changed.name}", "quarantined", "changed_on_disk")
    ]
    assert shows(site, twin, picture)
    assert value(site, number=int(changed.stem)) == f"/uploads/items/{changed.name}"
    site.migrate(retry_failed=True)
    assert site.states() == {"migrated": 2}
    assert shows(site, twin, picture)
    assert shows(site, int(changed.stem), changed.read_bytes())


@DATABASES
def test_a_photo_exchanged_between_its_proof_and_the_rewrite_is_migrated_with_its_new_content_only(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=1, database=database)
    (batch,) = uploaded(site)
    file = site.uploads / "items/0.jpg"

    def exchange() -> None:
        photo(file, seed=55)
        with site.project() as other:
            site.inventory(other)

    with site.project() as project, BatchLease(project.database, batch, run=new_run_id()) as lease:
        cdn = MeanwhileCdn(project.config.cdn.base_url, exchange)
        rewrite_batch(project.database, project.config, lease, project.store, cdn)
        settle_forward(project.database, lease)
    assert value(site) == "/uploads/items/0.jpg"
    assert site.states() == {"pending": 1}
    assert forward(site) == [batch]
    assert sha256(file) in value(site)
    assert site.states() == {"migrated": 1}


# Inventories that overlap


@MOSTLY_SQLITE
def test_an_inventory_that_another_one_overtook_takes_no_photo_out_of_the_migration(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=3, database=database)
    migrated(site)

    def overtake(*_progress: object) -> None:
        with site.project() as other:
            once(lambda: take_inventory(other.database, other.config))

    waiting = [True]

    def once(inventory: Callable[[], Any]) -> None:
        if waiting:
            waiting.pop()
            expect_nothing_but_a_refusal(inventory)

    def rows_were_read(step: str, *_counts: object) -> None:
        if step == "rows":
            overtake()

    with site.project() as project:
        expect_nothing_but_a_refusal(
            lambda: take_inventory(project.database, project.config, progress=rows_were_read)
        )
    assert not waiting
    assert site.states() == {"migrated": 3}
    forward(site)
    assert site.states() == {"migrated": 3}
    assert_all_are_validated(site, 3)


def expect_nothing_but_a_refusal(action: Callable[[], Any]) -> None:
    """One of two overlapping inventories may be refused, by one of our own errors; it may not do harm."""
    with suppress(PhotoPipelineError):
        action()


def assert_all_are_validated(site: Site, photos: int) -> None:
    with site.project() as project:
        results = [
            validate_batch(project.database, project.config, project.cdn, key, run=new_run_id())
            for key in batches_to_validate(project.database)
        ]
    assert sum(result.checked for result in results) == photos


@pytest.mark.slow
def test_photos_that_the_sources_filter_hides_once_they_are_migrated_stay_migrated_and_checked(
    make_site: MakeSite,
) -> None:
    where = [{"column": "original_url", "op": "like", "value": "/uploads/%"}]
    site = make_site(photos=3, sources=[source(where=where)])
    before = site.dump()
    migrated(site)
    forward(site)
    assert site.states() == {"migrated": 3}
    assert_all_are_validated(site, 3)
    with site.project() as project:
        assert every_rewritten_row_is_backed(project.database, project.config, "batch-000001").checked == 3
    site.roll_back()
    assert site.dump() == before


def test_files_that_nobody_names_are_found_by_an_index_and_not_by_reading_all_photos_for_each(
    make_site: MakeSite,
) -> None:
    site = make_site(photos=2)
    asked: list[tuple[str, Any]] = []
    with site.project() as project:
        ensure_schema(project.database)

        @sa.event.listens_for(project.database.engine, "before_cursor_execute")
        def remember(_c: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> None:
            if "pp_file" in statement and "pp_photo" in statement:
                asked.append((statement, parameters))

        take_inventory(project.database, project.config)
        sa.event.remove(project.database.engine, "before_cursor_execute", remember)
        plans = {statement: plan(project, statement, values) for statement, values in asked}
    assert any(statement.startswith("INSERT INTO pp_photo") for statement in plans)
    for statement, steps in plans.items():
        photos = [step for step in steps if "pp_photo" in step]
        assert photos, statement
        assert all(step.startswith("SEARCH") and "file_id=?" in step for step in photos), (statement, steps)


def plan(project: Project, statement: str, parameters: Any) -> list[str]:
    """How SQLite would run the statement, step by step."""
    with project.database.read() as connection:
        rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
        return [str(row[-1]) for row in rows]


# Batches that run at the same time, and what else is in the bucket


@DATABASES
def test_two_batches_with_the_same_photo_complete_when_one_uploads_while_the_other_does(
    make_site: MakeSite, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=1, database=database, batch_size=1, upload={"concurrency": 1}, rows=rows_of(2))
    shutil.copy(site.uploads / "items/0.jpg", site.uploads / "items/1.jpg")
    put_new = PhotoStore.put_new
    with site.project() as project:
        site.inventory(project)
        meanwhile = Once(lambda: migrate_named(site, "batch-000002"))

        def put_when_the_other_has_finished(self: PhotoStore, *arguments: Any, **options: Any) -> bool:
            meanwhile()
            return put_new(self, *arguments, **options)

        monkeypatch.setattr(PhotoStore, "put_new", put_when_the_other_has_finished)
        migrate_quickly(project, "batch-000001")
    assert_both_batches_are_whole(site)


@MOSTLY_SQLITE
def test_two_batches_with_the_same_photo_complete_when_one_finishes_while_the_other_makes_variants(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=1, database=database, batch_size=1, rows=rows_of(2))
    shutil.copy(site.uploads / "items/0.jpg", site.uploads / "items/1.jpg")
    with site.project() as project:
        site.inventory(project)
        meanwhile = Once(lambda: migrate_named(site, "batch-000002"))
        with BatchLease(project.database, "batch-000001", run=new_run_id()) as lease:
            process_batch(project.database, project.config, lease, tapped(quick_workers, after=meanwhile))
        backed = every_rewritten_row_is_backed(project.database, project.config, "batch-000002")
        assert (backed.checked, backed.violations) == (1, 0)
        migrate_quickly(project, "batch-000001")
    assert_both_batches_are_whole(site)


def rows_of(number: int) -> list[dict[str, Any]]:
    return [item_photo(n, f"/uploads/items/{n}.jpg") for n in range(number)]


def assert_both_batches_are_whole(site: Site) -> None:
    assert site.states() == {"migrated": 2}
    assert site.execute("SELECT key, state, error FROM pp_batch ORDER BY key") == [
        ("batch-000001", "completed", None),
        ("batch-000002", "completed", None),
    ]
    assert value(site, number=0) == value(site, number=1)
    assert_every_named_url_answers(site)
    with site.project() as project:
        for key in ("batch-000001", "batch-000002"):
            assert every_rewritten_row_is_backed(project.database, project.config, key).holds


def test_foreign_bytes_under_a_photos_key_cost_only_that_photo(make_site: MakeSite) -> None:
    site = make_site(photos=3)
    with site.project() as project:
        site.inventory(project)
        with BatchLease(project.database, "batch-000001", run=new_run_id()) as lease:
            process_batch(project.database, project.config, lease, quick_workers)
        ((key, owner),) = site.execute(
            "SELECT o.key, p.path FROM pp_object o JOIN pp_photo p ON p.sha256 = o.source_sha256 "
            "WHERE p.value = '/uploads/items/1.jpg' AND o.variant = 'full' AND o.format = 'avif'"
        )
        project.store.put_new(key, b"foreign", content_type="image/avif")
    again(site, "batch-000001")
    assert site.states() == {"migrated": 2, "quarantined": 1}
    ((path, reason),) = site.execute("SELECT path, error_detail FROM pp_photo WHERE state = 'quarantined'")
    assert path == owner
    assert key in reason
    with site.project() as project:
        assert project.store.read(key) == b"foreign"
    assert_every_named_url_answers(site)


@pytest.mark.parametrize(
    "entity",
    ["first line\nsecond line\r\nthird", "Grüße, 写真 \u2603", "x" * 5_000, "é" * 5_000, "\t \x7f"],
    ids=["newlines", "not-ascii", "5000-characters", "5000-not-ascii", "control-characters"],
)
def test_an_entity_of_any_name_is_migrated(make_site: MakeSite, entity: str) -> None:
    site = make_site(photos=2, sources=[source(entity={"type": "item", "id": "alt"})])
    site.execute("UPDATE item_photos SET alt = :a WHERE alt = 'photo 1'", a=entity)
    migrated(site)
    assert site.states() == {"migrated": 2}
    assert_every_named_url_answers(site)
    assert value(site, "alt", number=1) == entity
    for metadata in stored_metadata(site):
        # What Amazon S3 takes: 2 KB of names and values, in printable ASCII.
        assert sum(len(name) + len(text) for name, text in metadata.items()) <= 2_048
        assert all(text.isascii() and text.isprintable() for text in metadata.values())


def stored_metadata(site: Site) -> list[dict[str, str]]:
    keys = [row[0] for row in site.execute("SELECT key FROM pp_object WHERE verified_at IS NOT NULL")]
    assert len(keys) == 2 * 7
    with site.project() as project:
        store = project.store
        return [store.s3.head_object(Bucket=store.bucket, Key=key)["Metadata"] for key in keys]
