"""Each shipped preset, as it stands, on its framework's real tables: there, shown right, and back again."""

import json

import pytest

from photo_pipeline.core.migration.selection import batches_to_migrate
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import rewritten, rolled_back, uploaded
from photo_pipeline_tests.core.sources.presets.frameworks import (
    DJANGO,
    FRAMEWORKS,
    ITEM_PHOTOS,
    LARAVEL,
    PROPERTY_IMAGES,
    RAILS,
    STRAPI,
    WORDPRESS,
    Framework,
    build,
)
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site


def migrate(site: Site) -> int:
    """Migrate everything; return how many references moved."""
    moved = 0
    for batch in uploaded(site):
        outcome = rewritten(site, batch)
        assert (outcome.conflicts, outcome.failed, outcome.not_ready) == (0, 0, 0)
        moved += outcome.rewritten + outcome.stored
    return moved


@MOSTLY_SQLITE
@pytest.mark.parametrize("framework", FRAMEWORKS, ids=[each.preset for each in FRAMEWORKS])
def test_everything_goes_there_and_back_exactly(
    make_site: MakeSite, framework: Framework, database: str
) -> None:
    site = build(make_site, framework, database)
    before = site.dump()

    assert migrate(site) >= 1
    assert set(site.states()) <= {"migrated", "stored"}

    with site.project() as project:
        inventory, _ = site.inventory(project)
        assert batches_to_migrate(project.database) == []
    assert inventory.by_class["file_missing"] == 0
    rolled_back(site)
    assert site.dump() == before


@MOSTLY_SQLITE
def test_item_photos_have_their_status_and_savings(make_site: MakeSite, database: str) -> None:
    site = build(make_site, ITEM_PHOTOS, database)
    assert migrate(site) == 4
    row = site.execute(
        "SELECT original_url, thumbnail_url, status, original_size, file_size, bytes_saved, savings_percent"
        " FROM item_photos WHERE display_order = 0"
    )[0]
    size = (site.uploads / "items/0.jpg").stat().st_size
    assert row[0].startswith("http")
    assert "/full." in row[0]
    assert "/thumb." in row[1]
    assert row[0].rsplit("/", 1)[0] == row[1].rsplit("/", 1)[0]
    assert (row[2], row[3], row[5]) == ("migrated", size, size - row[4])
    assert row[6] == round(100 * (1 - row[4] / size))


@MOSTLY_SQLITE
def test_three_tables_move_at_once(make_site: MakeSite, database: str) -> None:
    site = build(make_site, PROPERTY_IMAGES, database)
    assert migrate(site) == 4
    ((url, thumb),) = site.execute(
        "SELECT image_url, thumbnail_url FROM property_images WHERE image_url IS NOT NULL"
    )
    assert ("/full." in url, "/thumb." in thumb) == (True, True)
    paths = [row[0] for row in site.execute("SELECT file_path FROM project_images ORDER BY image_no")]
    assert all(path.startswith(f"{site.name}/") and path.endswith("full.webp") for path in paths)
    ((avatar,),) = site.execute("SELECT avatar_url FROM users WHERE avatar_url IS NOT NULL")
    assert "/face." in avatar


@MOSTLY_SQLITE
def test_a_django_column_takes_the_key_and_its_dimensions(make_site: MakeSite, database: str) -> None:
    site = build(make_site, DJANGO, database)
    migrate(site)
    rows = site.execute("SELECT image, image_width, image_height FROM shop_product ORDER BY id")
    assert rows[0][0].startswith(f"{site.name}/")
    assert len(rows[0][0]) <= 100
    assert (rows[0][1], rows[0][2]) == (1200, 1200)  # what the quick workers of these tests claim
    assert tuple(rows[1]) == ("", None, None)


@MOSTLY_SQLITE
def test_strapi_gets_its_formats_in_its_own_shape(make_site: MakeSite, database: str) -> None:
    site = build(make_site, STRAPI, database)
    assert migrate(site) == 1
    url, formats, provider, size = site.execute(
        "SELECT url, CAST(formats AS TEXT), provider, size FROM files WHERE name = 'cat.jpg'"
    )[0]
    document = json.loads(formats)
    assert set(document) == {"large", "medium", "small", "thumbnail"}
    thumbnail = document["thumbnail"]
    assert set(thumbnail) == {"name", "hash", "ext", "mime", "path", "width", "height", "size", "url"}
    assert (thumbnail["width"], thumbnail["height"]) == (245, 156)
    assert thumbnail["url"].rsplit("/", 1)[0] == url.rsplit("/", 1)[0]
    assert provider == "aws-s3"
    assert 0 < float(size) < 1
    assert site.execute("SELECT url, provider FROM files WHERE name = 'terms.pdf'") == [
        ("/uploads/terms_1.pdf", "local")
    ]


@MOSTLY_SQLITE
def test_rails_finds_its_blobs_by_their_key_in_the_other_service(make_site: MakeSite, database: str) -> None:
    site = build(make_site, RAILS, database)
    assert migrate(site) == 2
    rows = site.execute('SELECT "key", service_name FROM active_storage_blobs')
    assert {row[1] for row in rows} == {"amazon"}
    with site.project() as project:
        for key, _ in rows:
            local = site.uploads / key[0:2] / key[2:4] / key
            assert project.store.read(key, size=100_000) == local.read_bytes()


@MOSTLY_SQLITE
def test_laravel_finds_its_media_under_the_same_path_on_the_other_disk(
    make_site: MakeSite, database: str
) -> None:
    site = build(make_site, LARAVEL, database)
    assert migrate(site) == 2
    assert site.execute("SELECT DISTINCT disk, conversions_disk FROM media") == [("s3", "public")]
    with site.project() as project:
        assert (
            project.store.read("1/photo-1.jpg", size=100_000) == (site.uploads / "1/photo-1.jpg").read_bytes()
        )


@MOSTLY_SQLITE
def test_wordpress_keeps_its_rows_and_its_serialised_lengths(make_site: MakeSite, database: str) -> None:
    site = build(make_site, WORDPRESS, database)
    meta = site.execute("SELECT * FROM wp_postmeta ORDER BY meta_id")
    guid = site.execute('SELECT "ID", guid FROM wp_posts ORDER BY "ID"')
    assert migrate(site) == 3
    assert site.execute("SELECT * FROM wp_postmeta ORDER BY meta_id") == meta
    ((post,),) = site.execute("SELECT post_content FROM wp_posts WHERE post_title = 'A cat'")
    assert "blog.example" not in post
    assert ("/medium." in post, "/full." in post) == (True, True)
    assert post.startswith('<p>Hi</p><img src="http')
    assert site.execute('SELECT "ID", guid FROM wp_posts ORDER BY "ID"') == guid
