"""Fields whose cells no rewrite changes: computed paths, and PHP's serialized values."""

from typing import Any

import pytest

from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, rolled_back, uploaded
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site

COMPUTED = {"kind": "computed", "template": "{{ folder }}/{{ key[0:1] }}.jpg", "root": "uploads"}
PHP = {"kind": "php_serialized", "column": "meta", "root": "uploads", "paths": ["$.file"]}


def blobs(make_site: MakeSite, field: dict[str, Any], database: str, **rewrite: Any) -> Site:
    source = {"name": "blobs", "table": "blobs", "key": ["id"], "fields": [field]}
    source |= {"rewrite": {"mode": "url"} | rewrite}
    site = make_site(photos=2, rows=[], sources=[source], database=database)
    site.execute(
        "CREATE TABLE blobs (id INTEGER PRIMARY KEY, key VARCHAR(9), folder TEXT, meta TEXT, "
        "s3_key TEXT, bytes INTEGER)"
    )
    for number in range(2):
        meta = f'a:2:{{s:4:"file";s:11:"items/{number}.jpg";s:1:"n";i:3;}}'
        site.execute(
            "INSERT INTO blobs VALUES (:id, :key, 'items', :meta, NULL, NULL)",
            id=number,
            key=f"{number}xyz",
            meta=meta,
        )
    site.execute("INSERT INTO blobs VALUES (2, NULL, 'items', NULL, NULL, NULL)")
    return site


@MOSTLY_SQLITE
@pytest.mark.parametrize("field", [COMPUTED, PHP], ids=["computed", "php"])
def test_the_photos_come_into_the_store_and_no_row_is_touched(
    make_site: MakeSite, database: str, field: dict[str, Any]
) -> None:
    site = blobs(make_site, field, database)
    before = site.dump()
    assert migrated(site).rewritten == 0
    assert site.dump() == before
    assert site.states() == {"stored": 2}
    assert site.execute("SELECT COUNT(*) FROM pp_object WHERE verified_at IS NOT NULL")[0][0] >= 4
    assert site.execute("SELECT state FROM pp_batch") == [("completed",)]
    assert uploaded(site) == []
    assert site.states() == {"stored": 2}


@MOSTLY_SQLITE
def test_a_computed_photos_facts_are_written_to_other_columns_and_taken_back(
    make_site: MakeSite, database: str
) -> None:
    site = blobs(make_site, COMPUTED, database, write_back={"s3_key": "s3_key", "bytes": "bytes"})
    before = site.dump()
    assert migrated(site).rewritten == 2
    rows = site.execute("SELECT s3_key, bytes FROM blobs WHERE id < 2")
    assert all("/photos/" in key and size > 0 for key, size in rows)
    assert site.states() == {"migrated": 2}
    assert uploaded(site) == []
    assert site.states() == {"migrated": 2}
    assert rolled_back(site).rolled_back == 2
    assert site.dump() == before


def test_a_broken_serialized_value_is_reported(make_site: MakeSite) -> None:
    site = blobs(make_site, PHP, "sqlite")
    site.execute("""UPDATE blobs SET meta = 'a:1:{s:4:"file";s:5:"items/1.jpg";}' WHERE id = 1""")
    migrated(site)
    assert site.states() == {"stored": 1, "found": 1}
    ((detail,),) = site.execute("SELECT class_detail FROM pp_photo WHERE class = 'unreadable'")
    assert "meta: it is not PHP's serialized format: at byte 17" in detail
