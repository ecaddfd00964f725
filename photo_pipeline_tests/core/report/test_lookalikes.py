"""Photos that look alike are told by their names, and nobody is told more than was compared."""

import json
import shutil
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import yaml
from PIL import Image

from photo_pipeline.core.catalog.tables import PhotoClass, PhotoState, photo_table, picture_table, utc_now
from photo_pipeline.core.imaging.fingerprint import FEATURELESS
from photo_pipeline.core.project import Project
from photo_pipeline.core.report.data import collect, from_json
from photo_pipeline.core.report.lookalikes import (
    MAX_GROUPS,
    MAX_PATHS,
    LookalikeGroup,
    Lookalikes,
    collect_lookalikes,
)
from photo_pipeline.core.report.write import write_report
from photo_pipeline_tests.core.report import conftest
from photo_pipeline_tests.core.report.conftest import Application

NEAR, FAR = ("00000000ffffffff", "00000000fffffff0"), "ffffffff00000000"


def lookalikes_of(project: Project) -> Lookalikes:
    return collect(project.database, project.config).lookalikes


def section(project: Project) -> str:
    page = write_report(project.database, project.config, project.cdn).html.read_text(encoding="utf-8")
    return page.partition('<section id="lookalikes">')[2].partition("</section>")[0]


def set_hashes(project: Project, hashes: Mapping[str, str]) -> None:
    """Give the contents at these paths the hashes."""
    with project.database.write() as connection:
        for path, perceptual_hash in hashes.items():
            content = sa.select(photo_table.c.sha256).where(photo_table.c.path == path).limit(1)
            connection.execute(
                sa.update(picture_table)
                .where(picture_table.c.sha256 == content.scalar_subquery())
                .values(perceptual_hash=perceptual_hash)
            )


def add_pictures(project: Project, hashes: Mapping[str, str], **photo: Any) -> None:
    """Add a photo for each path, as a batch would have left it; its content is named by its path."""
    now = utc_now()
    looks = {"thumbhash": "", "placeholder": "data:,", "dominant_colour": "#808080", "updated_at": now}
    columns = {
        "source": "photos",
        "role": "primary",
        "class": PhotoClass.MATCHED,
        "state": PhotoState.MIGRATED,
        "batch": "batch-000001",
        "scan": "x",
        "updated_at": now,
    }
    with project.database.write() as connection:
        connection.execute(
            sa.insert(picture_table),
            [looks | {"sha256": path, "perceptual_hash": digits} for path, digits in hashes.items()],
        )
        connection.execute(
            sa.insert(photo_table),
            [columns | {"reference_id": path, "path": path, "sha256": path} | photo for path in hashes],
        )


@pytest.fixture
def empty(fresh: Project) -> Project:
    """A project whose state tables hold no photos of batches."""
    conftest.inventory(fresh)
    return fresh


def test_photos_that_do_not_look_alike_are_in_no_group(migrated: Project) -> None:
    found = lookalikes_of(migrated)
    # Of the five contents the gradient has too few shapes to be told from others.
    assert found == Lookalikes(comparable=4, compared=4)
    assert "No two of 4 distinct photos look alike." in section(migrated)


def test_near_photos_are_one_group_named_by_their_paths(migrated: Project) -> None:
    set_hashes(migrated, {"0.jpg": NEAR[0], "3.jpg": NEAR[1], "1.jpg": FAR})
    found = lookalikes_of(migrated)
    assert (found.groups, found.photos) == (1, 2)
    assert found.largest == (LookalikeGroup(2, ("0.jpg", "3.jpg")),)
    text = section(migrated)
    assert "2 photos look like another one, in 1 group:" in text
    assert "they are stored once already" in text
    assert "<code>0.jpg</code><br><code>3.jpg</code>" in text


def test_a_photo_that_was_saved_anew_smaller_looks_like_itself(
    untouched: Application, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    application = _with_uploads_of_its_own(untouched.copy(tmp_path / "app"))
    uploads = application.folder / "uploads"
    with Image.open(uploads / "2.jpg") as image:
        image.resize((240, 180)).save(uploads / "again.jpg", quality=60)
    with closing(sqlite3.connect(application.folder / "app.db")) as connection, connection:
        connection.execute("INSERT INTO photos (url) VALUES ('/uploads/again.jpg')")
    with conftest._environment(application, monkeypatch).open() as project:
        conftest.migrate(project)
        assert lookalikes_of(project).largest == (LookalikeGroup(2, ("2.jpg", "again.jpg")),)


def test_exact_copies_of_a_file_are_one_photo(migrated: Project) -> None:
    with migrated.database.read() as connection:
        paths = connection.execute(
            sa.select(photo_table.c.path).where(photo_table.c.path.in_(["1.jpg", "copy-of-1.jpg"]))
        ).all()
    assert len(paths) == 2
    set_hashes(migrated, {"1.jpg": NEAR[0], "2.jpg": NEAR[1]})
    assert lookalikes_of(migrated).largest == (LookalikeGroup(2, ("1.jpg", "2.jpg")),)


@pytest.mark.parametrize(
    "gone", [{"state": PhotoState.SUPERSEDED}, {"batch": None}, {"role": "variant"}], ids=str
)
def test_only_photos_of_batches_that_rows_still_show_are_compared(
    empty: Project, gone: dict[str, Any]
) -> None:
    add_pictures(empty, {"a": NEAR[0]})
    add_pictures(empty, {"b": NEAR[1]}, **gone)
    assert lookalikes_of(empty) == Lookalikes(comparable=1, compared=1)


def test_photos_that_show_too_little_are_not_counted_as_alike(empty: Project) -> None:
    add_pictures(empty, dict.fromkeys("abc", FEATURELESS))
    assert lookalikes_of(empty) == Lookalikes()
    assert "Nothing to compare yet." in section(empty)


def test_the_largest_groups_are_listed_with_a_few_paths_each(empty: Project) -> None:
    # Hashes of 64 bits that differ in 32 of them: rows of a Hadamard matrix.
    far = [
        f"{sum(1 << bit for bit in range(64) if (row & bit).bit_count() % 2):016x}" for row in range(1, 26)
    ]
    groups = {f"{at:02}": digits for at, digits in enumerate(far)}
    add_pictures(empty, {f"{name}-{n}.jpg": digits for name, digits in groups.items() for n in range(2)})
    add_pictures(empty, {f"many-{n}.jpg": far[7] for n in range(10)})
    found = lookalikes_of(empty)
    assert (found.groups, found.photos, found.compared) == (25, 60, 60)
    assert len(found.largest) == MAX_GROUPS
    first = found.largest[0]
    assert (first.photos, len(first.paths)) == (12, MAX_PATHS)
    assert {group.photos for group in found.largest[1:]} == {2}
    text = section(empty)
    assert f"The {MAX_GROUPS} largest groups" in text
    assert "and 6 more" in text
    assert text.count("<code>") == MAX_PATHS + 2 * (MAX_GROUPS - 1)


def test_beyond_the_limit_the_report_says_how_many_were_compared(
    empty: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_pictures(empty, {"a": NEAR[0], "b": FAR, "c": NEAR[0], "d": FAR, "e": FAR})
    with empty.database.read() as connection:
        found = collect_lookalikes(connection, limit=3)
    # The nearest stay together: both of one hash, and not one of each.
    assert (found.comparable, found.compared, found.is_capped) == (5, 3, True)
    assert found.largest == (LookalikeGroup(2, ("a", "c")),)
    monkeypatch.setattr("photo_pipeline.core.report.data.collect_lookalikes", lambda connection: found)
    assert "Only 3 of 5 distinct photos were compared" in section(empty)


def test_a_path_that_is_markup_is_escaped(empty: Project) -> None:
    add_pictures(empty, {"<script>alert(1)</script>.jpg": NEAR[0], "b": NEAR[1]})
    text = section(empty)
    assert "&lt;script&gt;" in text
    assert "<script" not in text


def test_the_json_has_the_groups(migrated: Project) -> None:
    set_hashes(migrated, {"0.jpg": NEAR[0], "3.jpg": NEAR[1]})
    text = write_report(migrated.database, migrated.config, migrated.cdn).json.read_text(encoding="utf-8")
    told = json.loads(text)["lookalikes"]
    assert told["largest"] == [{"photos": 2, "paths": ["0.jpg", "3.jpg"]}]
    assert (told["comparable"], told["compared"], told["groups"], told["photos"]) == (4, 4, 1, 2)
    assert from_json(text).lookalikes == lookalikes_of(migrated)


def _with_uploads_of_its_own(application: Application) -> Application:
    path = application.folder / "photo_pipeline.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    uploads = application.folder / "uploads"
    shutil.copytree(document["roots"][0]["dir"], uploads)
    document["roots"][0]["dir"] = str(uploads)
    # Objects of the same content are in the bucket already, made by other tests.
    document["store"] |= {"prefix": "own/photos", "originals_prefix": "own/originals"}
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return application
