"""A touched column keeps the style of time that it had."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.raw import RawValue
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.migration.touch import touched
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, rolled_back
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import ITEM_PHOTOS

COLUMN = sa.Column("updated_at", sa.types.NullType())
NOW = datetime(2026, 11, 21, 7, 8, 9, 123456, tzinfo=UTC)
MOMENTS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
ENGINE = sa.create_engine("sqlite://")


def microseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def after(before: RawValue, now: datetime = NOW) -> RawValue:
    with ENGINE.connect() as connection:
        return touched(connection, COLUMN, before, now)


def test_each_style_of_text_is_kept() -> None:
    styles = {
        "2024-05-01 10:00:00": "2026-11-21 07:08:09",
        "2024-05-01T10:00:00": "2026-11-21T07:08:09",
        "2024-05-01T10:00:00Z": "2026-11-21T07:08:09Z",
        "2024-05-01T10:00:00.000Z": "2026-11-21T07:08:09.123Z",
        "2024-05-01 10:00:00.500000": "2026-11-21 07:08:09.123456",
        "2024-05-01 10:00:00.123456789": "2026-11-21 07:08:09.123456000",
        "2024-05-01 10:00:00+05:30": "2026-11-21 07:08:09+00:00",
        "2024-05-01 10:00:00-0800": "2026-11-21 07:08:09+0000",
    }
    assert {before: after(before) for before in styles} == styles


def test_what_has_no_known_style_gets_plain_iso_text() -> None:
    for before in (None, "", "yesterday", "2024-05-01", b"\x00"):
        assert after(before) == "2026-11-21 07:08:09"


@given(moment=MOMENTS, now=MOMENTS)
def test_numbers_stay_numbers_of_the_same_unit(moment: datetime, now: datetime) -> None:
    seconds = int(moment.timestamp())
    assert after(float(seconds), now) == now.timestamp()
    for unit in (1, 1_000, 1_000_000, 1_000_000_000):
        if abs(seconds * unit) >= 100_000_000 * unit:  # smaller ones are taken for a larger unit
            assert after(seconds * unit, now) == microseconds(now) * unit // 1_000_000


@MOSTLY_SQLITE
def test_a_column_of_numbers_keeps_its_unit_and_its_null(make_site: MakeSite, database: str) -> None:
    site = make_site(
        photos=3,
        database=database,
        sources=[ITEM_PHOTOS | {"rewrite": {"mode": "url", "touch": ["changed"]}}],
    )
    site.execute("ALTER TABLE item_photos ADD changed BIGINT")
    site.execute("UPDATE item_photos SET changed = 1700000000 WHERE alt = 'photo 1'")
    site.execute("UPDATE item_photos SET changed = 1700000000000000 WHERE alt = 'photo 2'")
    before = site.dump()
    began = utc_now()
    migrated(site)
    assert site.states() == {"migrated": 3}
    (null, seconds, micros) = (row[0] for row in site.execute("SELECT changed FROM item_photos ORDER BY alt"))
    assert null is None
    assert int(began.timestamp()) <= seconds <= utc_now().timestamp()
    assert microseconds(began) <= micros <= microseconds(utc_now())
    rolled_back(site)
    assert site.dump() == before


@given(
    moment=MOMENTS,
    now=MOMENTS,
    separator=st.sampled_from(" T"),
    digits=st.integers(0, 6),
    zone=st.sampled_from(["", "Z", "+00:00", "+0000"]),
)
def test_text_has_the_same_shape_and_says_now(
    moment: datetime, now: datetime, separator: str, digits: int, zone: str
) -> None:
    def shaped(instant: datetime) -> str:
        fraction = f".{instant.microsecond:06d}"[: digits + 1] if digits else ""
        return f"{instant:%Y-%m-%d}{separator}{instant:%H:%M:%S}{fraction}{zone}"

    assert after(shaped(moment), now) == shaped(now)


def test_postgres_writes_the_text_of_its_own_type(postgres: PostgresServer) -> None:
    database = Database.open(postgres.new_database())
    types = {
        sa.DateTime(timezone=True): "2026-11-21 07:08:09.123456+00",
        sa.DateTime(): "2026-11-21 07:08:09.123456",
        sa.Date(): "2026-11-21",
    }
    with database.read() as connection:
        told = {kind: touched(connection, sa.Column("c", kind), None, NOW) for kind in types}
        number = touched(connection, sa.Column("c", sa.BigInteger()), "1700000000000", NOW)
    database.close()
    assert told == types
    assert number == "1795244889123"


def test_a_text_column_of_postgres_keeps_its_style_too(postgres: PostgresServer) -> None:
    database = Database.open(postgres.new_database())
    with database.read() as connection:
        told = touched(connection, sa.Column("c", sa.Text()), "2024-05-01T10:00:00.000Z", NOW)
    database.close()
    assert told == "2026-11-21T07:08:09.123Z"
