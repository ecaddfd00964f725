"""The inventory on real files and real rows: one class for everything, and totals that add up."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from photo_pipeline.core.catalog.checksums import Checksums, hash_matched_files
from photo_pipeline.core.catalog.inventory import Inventory, last_inventory, take_inventory
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError, InfrastructureError
from photo_pipeline_tests.core.catalog.conftest import MakeSmallSite
from photo_pipeline_tests.core.catalog.small_site import JPEG, PNG, put, small_site, throwaway_folder
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo

OURS = f"https://cdn.example/small/photos/ab/{'ab' * 32}/0123456789ab/full.jpg"


def inventory(site: Site) -> Inventory:
    with site.project() as project:
        taken = take_inventory(project.database, project.config)
        assert last_inventory(project.database) == taken
    assert taken.adds_up, taken
    return taken


def classes(site: Site) -> dict[str, int]:
    return {name: count for name, count in inventory(site).by_class.items() if count}


def detail_of(site: Site, photo_class: str) -> str:
    ((detail,),) = site.execute("SELECT class_detail FROM pp_photo WHERE class = :c", c=photo_class)
    return str(detail)


def hashed(site: Site, *, rehash: bool = False) -> Checksums:
    with site.project() as project:
        take_inventory(project.database, project.config)
        return hash_matched_files(project.database, project.config, rehash=rehash)


def one_row(value: str | None) -> list[dict[str, Any]]:
    return [item_photo(0, value)]


@DATABASES
def test_a_photo_that_a_row_names_is_matched(make_small_site: MakeSmallSite, database: str) -> None:
    site = make_small_site(database=database, rows=one_row("/uploads/a.jpg"))
    put(site, "a.jpg")
    assert classes(site) == {"matched": 1}
    taken = inventory(site)
    assert (taken.files, taken.rows, taken.references, taken.empty_fields) == (1, 1, 1, 1)


def test_the_content_decides_and_not_the_extension(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=[item_photo(0, "/uploads/a.txt"), item_photo(1, "/uploads/b.jpg")])
    put(site, "a.txt", JPEG)
    put(site, "b.jpg", b"%PDF-1.7 no photo at all")
    assert classes(site) == {"matched": 1, "unsupported_format": 1}
    assert "Portable Document" in detail_of(site, "unsupported_format")


def test_a_photo_without_its_file_is_missing(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=one_row("/uploads/gone.jpg"))
    assert classes(site) == {"file_missing": 1}
    assert "gone.jpg" in detail_of(site, "file_missing")


def test_a_file_that_no_row_names_is_unreferenced(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=[])
    put(site, "alone.jpg")
    assert classes(site) == {"file_unreferenced": 1}


def test_the_configuration_says_what_is_too_large(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=one_row("/uploads/a.jpg"), inventory={"max_file_bytes": "1 KB"})
    put(site, "a.jpg", JPEG.ljust(1_025, b"\0"))
    assert classes(site) == {"too_large": 1}
    site.configure(inventory={"max_file_bytes": "2 KB"})
    assert classes(site) == {"matched": 1}


def test_an_empty_file_is_empty(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=one_row("/uploads/a.jpg"))
    put(site, "a.jpg", b"")
    assert classes(site) == {"empty": 1}


# The first inventory, of another site, loads every module while the interpreter may still read them.
UNREADABLE = """
import os, sys
from pathlib import Path
from photo_pipeline.core.catalog.inventory import take_inventory
from photo_pipeline.core.config import load_config
from photo_pipeline.core.catalog.database import Database
for url, path in zip(sys.argv[1::2], map(Path, sys.argv[2::2])):
    database = Database.open(url)
    taken = take_inventory(database, load_config(path))
    database.close()
    if os.geteuid() == 0:
        os.setgroups([]); os.setgid(65534); os.setuid(65534)
assert taken.adds_up, taken
print({name: count for name, count in taken.by_class.items() if count})
"""


def as_somebody_else(first: Site, second: Site) -> str:
    names = [first.url, str(first.config_path), second.url, str(second.config_path)]
    done = subprocess.run(
        [sys.executable, "-c", UNREADABLE, *names], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to drop to a user who may not read the files")
def test_what_permissions_hide_is_unreadable(make_small_site: MakeSmallSite) -> None:
    with throwaway_folder() as home:
        rows = [item_photo(number, f"/uploads/{number}.jpg") for number in range(3)]
        site = small_site(home, rows=rows)
        put(site, "0.jpg").chmod(0)
        put(site, "1.jpg")
        put(site, "shut/2.jpg").parent.chmod(0)
        for path in (home, home / "app.db"):
            os.chown(path, 65534, 65534)
        # The shut folder stands for everything in it that cannot be seen.
        told = as_somebody_else(make_small_site(), site)
        assert told == "{'matched': 1, 'file_missing': 1, 'unreadable': 2}"


def test_a_link_out_of_the_root_is_outside_and_never_followed(
    make_small_site: MakeSmallSite, tmp_path: Path
) -> None:
    site = make_small_site(rows=one_row("/uploads/link.jpg"))
    (tmp_path / "secret.jpg").write_bytes(JPEG)
    (tmp_path / "private").mkdir()
    (tmp_path / "private/p.jpg").write_bytes(JPEG)
    (site.uploads / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (site.uploads / "folder").symlink_to(tmp_path / "private")
    (site.uploads / "nowhere.jpg").symlink_to(tmp_path / "nothing")
    (site.uploads / "loop.jpg").symlink_to("loop.jpg")
    assert classes(site) == {"outside_root": 4}
    assert site.execute("SELECT COUNT(*) FROM pp_file WHERE size IS NOT NULL") == [(0,)]


def test_a_link_within_the_root_is_its_target(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=one_row("/uploads/link.jpg"))
    put(site, "real.jpg")
    (site.uploads / "link.jpg").symlink_to("real.jpg")
    assert classes(site) == {"matched": 1, "file_unreferenced": 1}


@pytest.mark.parametrize(
    "value",
    ["../../etc/passwd", "/uploads/%2e%2e/x.jpg", "/etc/passwd", "https://evil.example/uploads/a.jpg"],
)
def test_a_row_that_leads_out_of_the_root_is_outside(make_small_site: MakeSmallSite, value: str) -> None:
    site = make_small_site(rows=one_row(value))
    put(site, "a.jpg")
    assert classes(site) == {"outside_root": 1, "file_unreferenced": 1}
    assert detail_of(site, "outside_root")


def test_a_pipe_is_reported_and_never_opened(make_small_site: MakeSmallSite) -> None:
    # Opening it would wait for a writer for ever; the test's time limit would tell.
    site = make_small_site(rows=one_row("/uploads/pipe.jpg"))
    os.mkfifo(site.uploads / "pipe.jpg")
    os.mkfifo(site.uploads / "other.jpg")
    assert classes(site) == {"unreadable": 2}
    assert hashed(site).hashed == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (OURS, "already_migrated"),
        (OURS.removeprefix("https://cdn.example/"), "already_migrated"),
        ("https://cdn.example/small/photos/not/ours.jpg", "outside_root"),
        ("https://other.example" + OURS.removeprefix("https://cdn.example"), "outside_root"),
        ("small/photos/summer.jpg", "file_missing"),
    ],
)
def test_only_our_own_urls_and_keys_count_as_migrated(
    make_small_site: MakeSmallSite, value: str, expected: str
) -> None:
    assert classes(make_small_site(rows=one_row(value))) == {expected: 1}


@pytest.mark.parametrize("value", [None, "", "   ", "\t"])
def test_an_empty_field_is_counted_and_is_no_reference(
    make_small_site: MakeSmallSite, value: str | None
) -> None:
    taken = inventory(make_small_site(rows=one_row(value)))
    assert (taken.rows, taken.references, taken.empty_fields) == (1, 0, 2)


@pytest.mark.parametrize("value", [7, 2.5, b"\xff\x00"])
def test_a_value_that_is_no_text_names_no_file(make_small_site: MakeSmallSite, value: object) -> None:
    site = make_small_site(rows=one_row("x"))
    site.execute("ALTER TABLE item_photos ADD COLUMN anything BLOB")
    site.execute("UPDATE item_photos SET anything = :v", v=value)
    source = ITEM_PHOTOS | {"fields": [{"kind": "url", "column": "anything", "root": "uploads"}]}
    site.configure(sources=[source])
    assert sum(classes(site).values()) == 1


def test_names_that_are_not_utf8_are_reported_one_by_one(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=[])
    put(site, b"bad-\xff.jpg")
    put(site, b"bad-\xfe/inside.jpg")
    put(site, "bad-\\xff.jpg")  # what the first one's readable form looks like
    assert classes(site) == {"unreadable": 2, "file_unreferenced": 1}
    assert inventory(site).files == 3


@MOSTLY_SQLITE
def test_both_unicode_spellings_find_the_file(make_small_site: MakeSmallSite, database: str) -> None:
    rows = [item_photo(0, "/uploads/caf\u00e9.jpg"), item_photo(1, "/uploads/cafe\u0301.jpg")]
    site = make_small_site(database=database, rows=rows)
    put(site, "cafe\u0301.jpg")
    assert classes(site) == {"matched": 2}


def test_unicode_twins_on_disk_go_to_the_row_that_spells_them_alike(make_small_site: MakeSmallSite) -> None:
    rows = [item_photo(0, "/uploads/caf\u00e9.jpg"), item_photo(1, "/uploads/cafe\u0301.jpg")]
    site = make_small_site(rows=rows)
    put(site, "caf\u00e9.jpg")
    put(site, "cafe\u0301.jpg", PNG)
    assert classes(site) == {"matched": 2}
    found = {row[0]: row[1] for row in site.execute("SELECT path, format FROM pp_photo")}
    assert found == {"caf\u00e9.jpg": "JPEG", "cafe\u0301.jpg": "PNG"}


@MOSTLY_SQLITE
@pytest.mark.parametrize("position", [1_714_557_600_000, -(2**63), None])
def test_a_position_of_any_size_is_taken(
    make_small_site: MakeSmallSite, database: str, position: int | None
) -> None:
    site = make_small_site(database=database, rows=one_row("/uploads/a.jpg"))
    site.execute("ALTER TABLE item_photos ADD COLUMN place NUMERIC")
    site.execute("UPDATE item_photos SET place = :p", p=position)
    site.configure(sources=[ITEM_PHOTOS | {"position": "place"}])
    put(site, "a.jpg")
    assert classes(site) == {"matched": 1}


def test_a_position_beyond_64_bits_orders_nothing_and_breaks_nothing(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=one_row("/uploads/a.jpg"))
    site.execute("ALTER TABLE item_photos ADD COLUMN place TEXT")
    site.execute("UPDATE item_photos SET place = '99999999999999999999'")
    site.configure(sources=[ITEM_PHOTOS | {"position": "place"}])
    assert classes(site) == {"file_missing": 1}


FILES = {
    "a.jpg": JPEG,
    "b.png": PNG,
    "c.txt": b"words",
    "d.jpg": b"",
    "e/f.jpg": JPEG,
    "big.jpg": JPEG.ljust(3_000, b"\0"),
    "e/\u00e9.jpg": JPEG,
}
VALUES = [
    *(f"/uploads/{name}" for name in FILES),
    *("e/e\u0301.jpg", "e%2Ff.jpg", "../x", OURS, "https://x.example/y.jpg", "/uploads/none.jpg", "", None),
]


@settings(max_examples=12, deadline=None)
@given(
    files=st.sets(st.sampled_from(sorted(FILES))),
    values=st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from(VALUES)), max_size=8),
)
def test_any_mixture_of_files_and_rows_adds_up(
    files: set[str], values: list[tuple[str | None, str | None]]
) -> None:
    with throwaway_folder() as home, pytest.MonkeyPatch.context() as patch:
        rows = [item_photo(number, *pair) for number, pair in enumerate(values)]
        site = small_site(home, rows=rows, inventory={"max_file_bytes": 2_000})
        patch.setenv("APP_DATABASE_URL", site.url)
        for name in files:
            put(site, name, FILES[name])
        first, second = inventory(site), inventory(site)
        assert first.files == len(files)
        assert first.references + first.empty_fields == 2 * len(rows)
        assert (first.by_class, first.files) == (second.by_class, second.files)


def test_a_vanished_root_refuses_and_forgets_nothing(make_small_site: MakeSmallSite, tmp_path: Path) -> None:
    site = make_small_site(rows=one_row("/uploads/a.jpg"))
    put(site, "a.jpg")
    inventory(site)
    state = site.execute("SELECT state, class, scan FROM pp_photo"), site.execute("SELECT * FROM pp_file")
    site.uploads.rename(tmp_path / "unmounted")
    with pytest.raises(InfrastructureError, match="root 'uploads'"):
        inventory(site)
    assert state == (
        site.execute("SELECT state, class, scan FROM pp_photo"),
        site.execute("SELECT * FROM pp_file"),
    )


def test_a_root_that_is_suddenly_empty_refuses_and_forgets_nothing(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=one_row("/uploads/a.jpg"))
    put(site, "a.jpg")
    inventory(site)
    (site.uploads / "a.jpg").unlink()
    with pytest.raises(GuardRefusedError, match="1 files were there"):
        inventory(site)
    assert site.execute("SELECT class FROM pp_photo") == [("matched",)]
    assert site.execute("SELECT path FROM pp_file") == [("a.jpg",)]


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Names of all the files that this process opens meanwhile, as the interpreter itself reports them."""
    names: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open":
            names.append(str(arguments[0]))

    sys.addaudithook(watch)
    try:
        yield names
    finally:
        watching = False


def photos_in(names: list[str]) -> set[str]:
    return {Path(name).name for name in names if name.endswith(".jpg")}


def test_only_new_and_changed_files_are_read_again(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=[item_photo(n, f"/uploads/{n}.jpg") for n in range(3)])
    for number in range(3):
        put(site, f"{number}.jpg", JPEG + bytes([number]))
    with opened_files() as names:
        assert hashed(site).hashed == 3
    assert photos_in(names) == {"0.jpg", "1.jpg", "2.jpg"}
    put(site, "1.jpg", JPEG + b"longer than before")
    with opened_files() as names:
        again = hashed(site)
    assert photos_in(names) == {"1.jpg"}
    assert (again.hashed, again.reused) == (1, 2)
    with opened_files() as names:
        assert hashed(site, rehash=True).hashed == 3
    assert photos_in(names) == {"0.jpg", "1.jpg", "2.jpg"}


def test_a_rehash_sees_what_size_and_time_hide(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=one_row("/uploads/a.jpg"))
    path = put(site, "a.jpg", JPEG + b"1")
    before = path.stat()
    hashed(site)
    (first,) = site.execute("SELECT sha256 FROM pp_photo")
    with path.open("r+b") as stream:
        stream.write(JPEG + b"2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    hashed(site)
    assert site.execute("SELECT sha256 FROM pp_photo") == [first]
    hashed(site, rehash=True)
    assert site.execute("SELECT sha256 FROM pp_photo") != [first]


def test_a_file_that_changes_between_listing_and_hashing_is_quarantined_until_the_next_inventory(
    make_small_site: MakeSmallSite,
) -> None:
    site = make_small_site(rows=one_row("/uploads/a.jpg"))
    put(site, "a.jpg")
    with site.project() as project:
        take_inventory(project.database, project.config)
        put(site, "a.jpg", JPEG + b"grown meanwhile")
        assert hash_matched_files(project.database, project.config).failed == 1
    assert site.states() == {"quarantined": 1}
    hashed(site)
    assert site.states() == {"pending": 1}


def test_a_file_that_could_not_be_read_once_is_tried_again(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=one_row("/uploads/a.jpg"))
    path = put(site, "a.jpg")
    with site.project() as project:
        take_inventory(project.database, project.config)
        path.rename(path.with_name("away.tmp"))
        hash_matched_files(project.database, project.config)
        path.with_name("away.tmp").rename(path)  # size, time and inode are what they were
    assert site.states() == {"quarantined": 1}
    hashed(site)
    assert site.states() == {"pending": 1}


def test_equal_files_are_counted_as_duplicates(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=[item_photo(n, f"/uploads/{n}.jpg") for n in range(3)])
    for number in range(3):
        put(site, f"{number}.jpg", JPEG if number else PNG)
    done = hashed(site)
    assert (done.duplicate_groups, done.duplicate_files) == (1, 2)


@DATABASES
def test_an_inventory_follows_files_and_rows_that_come_and_go(
    make_small_site: MakeSmallSite, database: str
) -> None:
    site = make_small_site(database=database, rows=[item_photo(n, f"/uploads/{n}.jpg") for n in range(3)])
    for number in range(2):
        put(site, f"{number}.jpg")
    assert classes(site) == {"matched": 2, "file_missing": 1}
    put(site, "2.jpg")
    (site.uploads / "0.jpg").unlink()
    site.execute("DELETE FROM item_photos WHERE original_url = '/uploads/1.jpg'")
    assert classes(site) == {"matched": 1, "file_missing": 1, "file_unreferenced": 1}
    assert site.states() == {"pending": 1, "found": 1, "superseded": 1}


@pytest.mark.slow
def test_five_thousand_files_are_all_found(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=one_row("/uploads/4999/x.jpg"))
    for number in range(5_000):
        put(site, f"{number % 50}/{number}.jpg", b"x")
    taken = inventory(site)
    assert taken.files == 5_000
    put(site, "0/0.jpg", b"changed")
    assert inventory(site).files == 5_000
    assert site.execute("SELECT COUNT(*) FROM pp_file WHERE size = 7") == [(1,)]


def pp_tables(site: Site) -> list[str]:
    engine = site.engine()
    names = [name for name in sa.inspect(engine).get_table_names() if name.startswith("pp_")]
    engine.dispose()
    return names


@DATABASES
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"table": "no_such_table"}, "table 'no_such_table'"),
        ({"schema": "no_such_schema"}, "no_such_schema"),
        ({"key": ["uuid"]}, "column 'uuid'"),
        ({"entity": {"type": "item", "id": "thing"}}, "column 'thing'"),
        ({"position": "place"}, "column 'place'"),
        ({"where": [{"column": "hidden", "op": "is_null"}]}, "column 'hidden'"),
        ({"rewrite": {"mode": "url", "touch": ["changed_at"]}}, "column 'changed_at'"),
    ],
)
def test_a_mapping_that_does_not_fit_the_database_is_refused_before_anything_is_written(
    make_small_site: MakeSmallSite, database: str, change: dict[str, Any], told: str
) -> None:
    site = make_small_site(database=database, sources=[ITEM_PHOTOS | change], rows=[])
    with pytest.raises(ConfigurationError) as caught:
        inventory(site)
    assert told in str(caught.value)
    assert pp_tables(site) == []


@MOSTLY_SQLITE
def test_a_key_that_finds_two_rows_is_refused_and_the_row_is_named(
    make_small_site: MakeSmallSite, database: str
) -> None:
    rows = [item_photo(n, f"/uploads/{n}.jpg") for n in range(4)]
    site = make_small_site(database=database, sources=[ITEM_PHOTOS | {"key": ["item_id"]}], rows=rows)
    with pytest.raises(ConfigurationError, match=r"it does not identify one row: \[.?0.?\]"):
        inventory(site)


def test_two_keyless_rows_are_refused_too(make_small_site: MakeSmallSite) -> None:
    rows = [item_photo(n, f"/uploads/{n}.jpg") | {"item_id": None} for n in range(2)]
    site = make_small_site(sources=[ITEM_PHOTOS | {"key": ["item_id"]}], rows=rows)
    with pytest.raises(ConfigurationError, match=r"\[null\]"):
        inventory(site)


def test_the_inventory_writes_nothing_to_the_application(make_small_site: MakeSmallSite) -> None:
    site = make_small_site(rows=[item_photo(n, f"/uploads/{n}.jpg") for n in range(3)])
    put(site, "1.jpg")
    before = site.dump()
    inventory(site)
    assert site.dump() == before


def test_a_condition_leaves_rows_out(make_small_site: MakeSmallSite) -> None:
    rows = [item_photo(n, f"/uploads/{n}.jpg") for n in range(4)]
    where = [{"column": "item_id", "op": "in", "value": [1]}, {"column": "alt", "op": "like", "value": "%3"}]
    site = make_small_site(sources=[ITEM_PHOTOS | {"where": where}], rows=rows)
    assert inventory(site).rows == 1
