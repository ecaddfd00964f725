"""Opening databases, and transactions that neither wait for ever nor tell a password."""

import threading
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from photo_pipeline.core.catalog.database import Database, UndecodableText
from photo_pipeline.core.catalog.inventory import take_inventory
from photo_pipeline.core.catalog.rows import RowAddress
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.scratch import ScratchDatabase
from photo_pipeline.core.errors import ConfigurationError, DatabaseError, PhotoPipelineError
from photo_pipeline_tests.core.catalog.conftest import MakeSmallSite
from photo_pipeline_tests.core.catalog.small_site import put
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import item_photo

LATIN = "/uploads/café.jpg".encode("latin-1")


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    (tmp_path / "app.db").touch()
    database = Database.open(f"sqlite:///{tmp_path / 'app.db'}")
    yield database
    database.close()


@pytest.fixture
def postgresql(postgres: PostgresServer) -> Iterator[Database]:
    database = Database.open(postgres.new_database())
    yield database
    database.close()


def test_sqlite_text_that_is_no_utf_8_is_read_as_its_bytes(sqlite: Database) -> None:
    with sqlite.read() as connection:
        query = "SELECT CAST(x'ff41' AS TEXT), CAST(x'c3a9' AS TEXT), x'c3a9', 'a' || char(0) || 'b', 1, NULL"
        values = list(connection.exec_driver_sql(query).one())
    assert values == [b"\xff\x41", "é", b"\xc3\xa9", "a\0b", 1, None]
    assert [type(value) for value in values[:3]] == [UndecodableText, str, bytes]


def test_a_value_that_is_no_utf_8_is_listed_and_never_queued_for_a_rewrite(
    make_small_site: MakeSmallSite,
) -> None:
    site = make_small_site(rows=[item_photo(0, "x"), item_photo(1, "/uploads/a.jpg"), item_photo(2, "x")])
    put(site, "a.jpg")
    put(site, LATIN.removeprefix(b"/uploads/"))
    change = "UPDATE item_photos SET original_url = CAST(:value AS TEXT) WHERE alt = :alt"
    site.execute(change, value=LATIN, alt="photo 0")
    site.execute(change, value=b"/uploads/../\xff.jpg", alt="photo 2")
    with site.project() as project:
        taken = take_inventory(project.database, project.config)
    found = {name: count for name, count in taken.by_class.items() if count}
    assert (taken.rows, taken.references, taken.adds_up) == (3, 3, True)
    assert found == {"matched": 1, "file_missing": 1, "outside_root": 1, "unreadable": 1}
    listed = "SELECT value, state FROM pp_photo WHERE class IN ('file_missing', 'outside_root') ORDER BY id"
    assert site.execute(listed) == [
        (r"b'/uploads/caf\xe9.jpg'", "found"),
        (r"b'/uploads/../\xff.jpg'", "found"),
    ]


def test_a_row_whose_key_is_no_utf_8_is_listed_and_never_found_for_writing(
    make_small_site: MakeSmallSite,
) -> None:
    site = make_small_site(rows=[item_photo(n, f"/uploads/{n}.jpg") for n in range(3)])
    site.execute("UPDATE item_photos SET id = CAST(:value AS TEXT) WHERE alt = 'photo 1'", value=b"k\xff")
    with site.project() as project:
        taken = take_inventory(project.database, project.config)
        (source,) = project.config.sources
        address = RowAddress.of(project.database, source, '[{"blob":"6bff"}]')
        with project.database.read() as connection:
            assert address.read(connection, ["original_url"]) is None
    assert (taken.rows, taken.by_class["file_missing"]) == (3, 3)
    listed = "SELECT count(*) FROM pp_photo WHERE row_key = :key"
    assert site.execute(listed, key='[{"blob":"6bff"}]') == [(1,)]


@pytest.fixture
def locked(postgresql: Database) -> Iterator[Database]:
    """A database in which the application holds the lock of row 1."""
    with postgresql.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (id INTEGER)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1), (2)")
    with postgresql.engine.connect() as application:
        application.exec_driver_sql("SELECT * FROM t WHERE id = 1 FOR UPDATE")
        yield postgresql


@pytest.mark.timeout(60)
def test_a_write_with_a_limit_gives_a_lock_up(locked: Database) -> None:
    with pytest.raises(DatabaseError, match="lock timeout"), locked.write(lock_timeout_s=1) as connection:
        connection.exec_driver_sql("UPDATE t SET id = 7 WHERE id = 1")
    with locked.write() as connection:
        connection.exec_driver_sql("UPDATE t SET id = 3 WHERE id = 2")


def test_the_limit_ends_with_its_transaction(postgresql: Database) -> None:
    def limit(connection: sa.Connection) -> str:
        return str(connection.exec_driver_sql("SHOW lock_timeout").scalar_one())

    with postgresql.write(lock_timeout_s=5) as connection:
        assert limit(connection) == "5s"
    with postgresql.write() as connection:
        assert limit(connection) == "0"


# Seven seconds are longer than a rewrite waits for a lock: an upgrade has no such limit.
@pytest.mark.parametrize("seconds", [0.5, pytest.param(7, marks=pytest.mark.slow)])
def test_an_upgrade_waits_for_a_slow_one(postgresql: Database, seconds: float) -> None:
    with postgresql.engine.connect() as other:
        other.exec_driver_sql("SELECT pg_advisory_xact_lock(7405061)")
        upgrade = threading.Thread(target=ensure_schema, args=(postgresql,))
        upgrade.start()
        upgrade.join(seconds)
        assert upgrade.is_alive()
        other.rollback()
    upgrade.join()
    with postgresql.read() as connection:
        assert sa.inspect(connection).has_table("pp_photo")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:hunter2@secretTail@127.0.0.1:9/db",
        "postgres://app:hunter2@secretTail@127.0.0.1:9/db",
        "postgresql+psycopg://app:hunter2@secretTail@/db",
        "postgresql://app:hunter2@secret/Tail@127.0.0.1/db",
        "postgresql://app:hunter2?secret@Tail@127.0.0.1/db",
        "postgresql://app:hunter2?@secret/Tail@127.0.0.1/db",
        "postgresql://app:hunter2@secret:Tail@127.0.0.1/db",
    ],
)
def test_an_unescaped_at_sign_in_the_password_is_named_and_no_part_of_it_shown(url: str) -> None:
    with pytest.raises(ConfigurationError, match="ercent-encode @ in the password") as refused:
        Database.open(url)
    shown = "".join(traceback.format_exception(refused.value))
    assert not [part for part in ("hunter2", "secret", "Tail") if part in shown]


@pytest.mark.parametrize("url", ["postgresql://app:hunter2/db", "postgresql://app:secret:Tail/db", "hunter2"])
def test_a_url_that_is_none_is_not_quoted(url: str) -> None:
    with pytest.raises(ConfigurationError, match="its URL is not a database URL") as refused:
        Database.open(url)
    shown = "".join(traceback.format_exception(refused.value))
    assert not [part for part in ("hunter2", "secret", "Tail") if part in shown]


def test_at_signs_in_their_right_places_are_taken(tmp_path: Path) -> None:
    folder = tmp_path / "a@b@c"
    folder.mkdir()
    (folder / "x@y.db").touch()
    Database.open(f"sqlite:///{folder / 'x@y.db'}").close()
    for url in ("postgresql://app:hun%40ter@127.0.0.1:9/db", "postgresql:///db?host=/tmp/no@where@here"):
        with pytest.raises(PhotoPipelineError, match="it does not answer"):
            Database.open(url)


def test_a_database_that_goes_away_while_a_table_is_looked_at_is_an_outage(postgres: PostgresServer) -> None:
    url = postgres.new_database()
    with closing(Database.open(url)) as database:
        postgres.allow_connections(str(make_url(url).database), allowed=False)
        with pytest.raises(DatabaseError, match="not currently accepting connections"):
            database.table("item_photos")


def test_a_user_who_may_make_no_temporary_tables_is_told_what_to_grant(postgres: PostgresServer) -> None:
    url = make_url(postgres.new_database())
    owner = Database.open(url.render_as_string(hide_password=False))
    with closing(owner), owner.write() as connection:
        connection.exec_driver_sql(f'REVOKE TEMPORARY ON DATABASE "{url.database}" FROM PUBLIC')
        connection.exec_driver_sql("CREATE ROLE without_temporary LOGIN")
    plain = url.set(username="without_temporary").render_as_string(hide_password=False)
    with pytest.raises(DatabaseError, match=r"temporary tables cannot be made \(permission .*TEMPORARY"):
        ScratchDatabase.open_scratch(plain, name="the database")
