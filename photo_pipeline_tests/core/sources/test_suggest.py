"""What `mapping suggest` says about databases whose right mapping is known."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from photo_pipeline.cli.program import app
from photo_pipeline.core.catalog.inventory import take_inventory
from photo_pipeline.core.sources.mapping import Source
from photo_pipeline.core.sources.suggest import Suggestion, suggest_mapping
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.sources.presets.frameworks import (
    DJANGO,
    ITEM_PHOTOS,
    PROPERTY_IMAGES,
    STRAPI,
    WORDPRESS,
    Framework,
    build,
)
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site


def suggested(site: Site, **options: int) -> Suggestion:
    with site.project() as project:
        return suggest_mapping(project.database, project.config, **options)


def sources(suggestion: Suggestion) -> dict[str, Source]:
    """The proposed sources, as the configuration would read them."""
    document = yaml.safe_load(suggestion.text)["sources"] or []
    return {each["name"]: Source.model_validate(each) for each in document}


def columns(source: Source) -> dict[str, str]:
    return {field.column: f"{field.kind} {field.role}" for field in source.fields if field.column}


EXPECTED: list[tuple[Framework, dict[str, dict[str, str]]]] = [
    (
        ITEM_PHOTOS,
        {"item_photos": {"original_url": "url primary", "thumbnail_url": "url variant"}},
    ),
    (
        PROPERTY_IMAGES,
        {
            "property_images": {"image_url": "url primary"},
            "project_images": {"file_path": "path primary"},
            "users": {"avatar_url": "url primary"},
        },
    ),
    (DJANGO, {"shop_product": {"image": "path primary"}}),
    (STRAPI, {"files": {"url": "url primary"}}),
    (
        WORDPRESS,
        {"wp_posts": {"post_content": "text duplicate"}, "wp_postmeta": {"meta_value": "path primary"}},
    ),
]


@MOSTLY_SQLITE
@pytest.mark.parametrize(("framework", "expected"), [pytest.param(*e, id=e[0].preset) for e in EXPECTED])
def test_a_frameworks_photo_columns_are_found(
    make_site: MakeSite, framework: Framework, expected: dict[str, dict[str, str]], database: str
) -> None:
    site = build(make_site, framework, database)
    before = site.dump()

    found = sources(suggested(site))

    assert site.dump() == before
    for name, wanted in expected.items():
        assert wanted.items() <= columns(found[name]).items(), name


@MOSTLY_SQLITE
def test_what_is_proposed_can_be_run_as_it_is(make_site: MakeSite, database: str) -> None:
    site = build(make_site, PROPERTY_IMAGES, database)
    proposed: list[dict[str, Any]] = yaml.safe_load(suggested(site).text)["sources"]
    site.configure(sources=proposed)
    with site.project() as project:
        inventory = take_inventory(project.database, project.config)
    assert inventory.by_class["matched"] == 4
    assert inventory.by_class["file_missing"] == 0
    source = next(each for each in proposed if each["name"] == "project_images")
    assert source["key"] == ["project_id", "image_no"]
    assert source["entity"] == {"type": "project", "id": "project_id"}


def test_the_share_of_values_that_name_files_is_said(make_site: MakeSite) -> None:
    site = make_site(photos=3)
    site.execute("UPDATE item_photos SET original_url = '/uploads/gone.jpg' WHERE alt = 'photo 2'")
    said = suggested(site).text
    assert "# 2 of 3 sampled values name a file (67%)" in said
    assert "alt" not in said


def test_only_our_own_tables_are_left_out_not_all_that_are_called_like_them(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    site.execute("CREATE TABLE pp_reviews (id INTEGER PRIMARY KEY, picture TEXT)")
    site.execute("INSERT INTO pp_reviews VALUES (1, '/uploads/items/0.jpg')")
    with site.project() as project:
        take_inventory(project.database, project.config)  # so that pp_photo and others name it, too
    assert set(sources(suggested(site))) == {"item_photos", "pp_reviews"}


def test_a_column_that_seldom_names_a_file_is_commented_out(make_site: MakeSite) -> None:
    site = make_site(photos=4)
    site.execute("UPDATE item_photos SET alt = '/uploads/items/1.jpg' WHERE alt = 'photo 1'")
    said = suggested(site)
    assert "# - {kind: url, column: alt, root: uploads}" in said.text
    assert "1 of 4 sampled values name a file (25%)" in said.text
    assert set(columns(sources(said)["item_photos"])) == {"original_url"}


def test_urls_within_json_and_text_are_found_with_their_paths(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    site.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, blocks TEXT, body TEXT, title TEXT)")
    site.execute(
        "INSERT INTO pages VALUES (1, :blocks, :body, 'Hello')",
        blocks='[{"image": {"url": "/uploads/items/0.jpg"}, "n": 1}, {"text": "no photo"}]',
        body='<p><img src="https://shop.example/uploads/items/0.jpg"></p>',
    )
    (pages,) = [table for table in suggested(site).tables if table.table == "pages"]
    blocks, body = pages.findings
    assert (blocks.kind, blocks.paths, blocks.share) == ("json", ("$[*].image.url",), 1)
    assert (body.kind, body.syntax) == ("text", "html")
    proposed = sources(suggested(site))["pages"]
    assert columns(proposed) == {"blocks": "json duplicate", "body": "text duplicate"}


def test_a_table_without_any_key_is_shown_commented_out_with_what_to_do(make_site: MakeSite) -> None:
    site = make_site(photos=1, rows=[])
    site.execute("CREATE TABLE loose (url TEXT)")
    site.execute("INSERT INTO loose VALUES ('/uploads/items/0.jpg')")
    said = suggested(site)
    assert sources(said) == {}
    assert "Table 'loose' has no primary key" in said.text


def test_a_column_too_narrow_for_a_url_gets_the_key(make_site: MakeSite) -> None:
    site = make_site(photos=1, rows=[])
    site.configure(store=site.settings["store"] | {"prefix": "photos"})
    site.execute('CREATE TABLE "order" (id INTEGER PRIMARY KEY, "on" VARCHAR(100))')
    site.execute("INSERT INTO \"order\" VALUES (1, '/uploads/items/0.jpg')")
    source = sources(suggested(site))["order"]
    assert source.rewrite.mode == "key"
    assert columns(source) == {"on": "url primary"}


def test_old_and_new_rows_are_both_looked_at(make_site: MakeSite) -> None:
    site = make_site(photos=1, rows=[])
    site.execute("CREATE TABLE pics (id INTEGER PRIMARY KEY, url TEXT)")
    for number in range(40):
        value = "/uploads/items/0.jpg" if number >= 20 else "/old/lost.jpg"
        site.execute("INSERT INTO pics VALUES (:n, :v)", n=number, v=value)
    (table,) = suggested(site, sample=10).tables
    assert (table.findings[0].sampled, table.findings[0].resolved) == (10, 5)


def test_the_command_writes_a_new_file_only(make_site: MakeSite, tmp_path: Path) -> None:
    make_site(photos=1)
    target = tmp_path / "mapping.yaml"
    first = CliRunner().invoke(app, ["mapping", "suggest", "--output", os.fspath(target)])
    assert first.exit_code == 0
    assert yaml.safe_load(target.read_text(encoding="utf-8"))["sources"][0]["table"] == "item_photos"
    again = CliRunner().invoke(app, ["mapping", "suggest", "--output", os.fspath(target)])
    assert again.exit_code == 3
