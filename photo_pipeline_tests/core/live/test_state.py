"""The live state: cheap to read, never older than it says, and one sentence for every situation."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from photo_pipeline.core import audit
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import (
    BatchState,
    Control,
    PhotoState,
    batch_table,
    breaker_table,
    photo_table,
    utc_now,
)
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.live.batches import MAX_CELLS, LiveBatch, cells
from photo_pipeline.core.live.pace import TimeLeft
from photo_pipeline.core.live.sentence import Facts, PhotoCounts, stand
from photo_pipeline.core.live.state import LiveReader
from photo_pipeline.core.live.workers import Worker, workers
from photo_pipeline.core.migration import control
from photo_pipeline.core.migration.watch import Wish
from photo_pipeline_tests.databases import MOSTLY_SQLITE
from photo_pipeline_tests.web.world import empty_database, half_done, write_config

MOST_STATEMENTS = 12


@pytest.fixture
def config(tmp_path: Path) -> PipelineConfig:
    return write_config(tmp_path)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(empty_database(tmp_path)) as database:
        yield database


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """Collect what is asked of the database."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:
        seen.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(database.engine, "before_cursor_execute", note)


def test_an_ordinary_look_takes_a_dozen_statements_and_never_looks_at_all_photos(
    database: Database, config: PipelineConfig
) -> None:
    half_done(database, batches=40, finished=30)
    reader = LiveReader(database, config)
    with statements(database) as first:
        reader.read()
    with statements(database) as seen:
        reader.read()
    asked = [each for each in seen if each[0].startswith("SELECT")]
    assert len(seen) <= MOST_STATEMENTS < len(first)
    with database.read() as connection:
        for statement, parameters in asked:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
            assert not [step for step in plan if "SCAN pp_photo" in str(step)], statement
        whole = "EXPLAIN QUERY PLAN SELECT count(*) FROM pp_photo WHERE state = 'pending'"
        assert "SCAN pp_photo" in str(connection.exec_driver_sql(whole).fetchall())  # the control
    counting = [statement for statement, _ in asked if "FROM pp_photo" in statement]
    assert all("count(*)" in statement for statement in counting)


@MOSTLY_SQLITE
def test_what_happens_in_a_batch_shows_at_once_and_the_rest_within_a_minute(
    config: PipelineConfig, tmp_path: Path, request: pytest.FixtureRequest, database: str
) -> None:
    if database == "postgres":
        opened = Database.open(request.getfixturevalue("postgres").new_database())
    else:
        opened = empty_database(tmp_path)
    now = [utc_now()]
    with closing(opened) as db:
        half_done(db)
        reader = LiveReader(db, config, clock=lambda: now[0])
        before = reader.read()
        _set_state(db, "batch-000005", PhotoState.MIGRATED)  # it is running
        at_once = reader.read()
        assert at_once.photos.done == before.photos.done + 5
        assert not at_once.unchanged_since(before)
        _set_state(db, "batch-000001", PhotoState.SUPERSEDED)  # by an inventory, say
        assert reader.read().photos.total == before.photos.total
        now[0] += timedelta(seconds=61)
        assert reader.read().photos.total == before.photos.total - 5
        assert [event.action for event in reader.read().events] == ["inventory"]


def _set_state(database: Database, batch: str, state: PhotoState) -> None:
    with database.write() as connection:
        mine = photo_table.c.batch == batch
        connection.execute(sa.update(photo_table).where(mine).values(state=state))


def test_backups_do_not_crowd_the_events_out(database: Database, config: PipelineConfig) -> None:
    half_done(database)
    with database.write() as connection:
        for number in range(20):
            audit.record(
                connection,
                action="backup",
                subject=f"{number} rows",
                details={},
                run="r1",
                actor="anna@web-1",
            )
    assert [event.action for event in LiveReader(database, config).read().events] == ["inventory"]


def test_nothing_but_the_clock_is_no_change(database: Database, config: PipelineConfig) -> None:
    half_done(database, finished=0)
    reader = LiveReader(database, config)
    first, second = reader.read(), reader.read()
    assert first.as_of != second.as_of
    assert second.unchanged_since(first)
    assert not first.unchanged_since(None)
    control.pause(database, reason="", run="r")
    assert not reader.read().unchanged_since(second)


def test_counts_agree_with_the_tables(database: Database, config: PipelineConfig) -> None:
    half_done(database)
    state = LiveReader(database, config).read()
    with database.read() as connection:
        grouped = sa.select(photo_table.c.state, sa.func.count()).where(photo_table.c.batch.is_not(None))
        truth = {row[0]: row[1] for row in connection.execute(grouped.group_by(photo_table.c.state))}
    assert {name: count for name, count in state.photo_states.items() if count} == truth
    photos = state.photos
    assert photos.done + photos.to_do + photos.set_aside + photos.rolled_back == photos.total
    assert sum(cell.photos for cell in state.cells) == photos.total
    assert sum(cell.done for cell in state.cells) == photos.done


def test_an_open_breaker_is_said_with_its_reason(database: Database, config: PipelineConfig) -> None:
    half_done(database)
    with database.write() as connection:
        values = {"state": "open", "reason": "1,900 of 2,000 PUTs are used", "opened_at": utc_now()}
        connection.execute(sa.update(breaker_table).values(**values))
    standing = LiveReader(database, config).read().standing
    assert (standing.kind, standing.level) == ("suspended", "attention")
    assert "1,900 of 2,000 PUTs are used" in standing.sentence


# --- the map


def batch(number: int, state: BatchState, **photos: int) -> LiveBatch:
    return LiveBatch(f"batch-{number:06d}", state, None, None, None, utc_now(), photos)


def test_up_to_500_batches_have_a_square_each() -> None:
    made = cells([batch(n, BatchState.PENDING, pending=2) for n in range(MAX_CELLS)])
    assert len(made) == MAX_CELLS
    assert made[0].title == "batch-000000: pending, 0 of 2 photos migrated"


def test_more_share_squares_and_the_one_that_needs_a_look_shows() -> None:
    batches = [batch(n, BatchState.COMPLETED, migrated=3) for n in range(1_201)]
    batches[7] = batch(7, BatchState.FAILED, pending=3)
    batches[9] = batch(9, BatchState.RUNNING, processed=3)
    made = cells(batches)
    assert len(made) <= MAX_CELLS
    assert sum(cell.batches for cell in made) == 1_201
    assert sum(cell.photos for cell in made) == 3_603
    assert [cell.state for cell in made[:4]] == ["completed", "completed", "failed", "running"]
    assert "1 failed, 2 completed" in made[2].title
    assert made[3].progress == pytest.approx((6 * 3 + 3) / 9 / 3)


# --- the sentence

PHOTOS = PhotoCounts(total=100, done=37, to_do=60, set_aside=3)
ALL = PhotoCounts(total=100, done=100)
ALIVE = Worker("batch-000001", "running", "web-1", "1", "run", None, "alive", "renews its lease")
RUNNING = (batch(1, BatchState.RUNNING),)
FACTS = Facts(Wish(Control.RUNNING), PHOTOS, RUNNING, (ALIVE,), None, "", 0, zero_delta_proven=False)
GONE = replace(ALIVE, health="gone")
LEFT = TimeLeft(700, 1_200, "between 12 and 20 minutes")


@pytest.mark.parametrize(
    ("facts", "kind", "level", "words"),
    [
        (
            replace(FACTS, time_left=LEFT),
            "running",
            "good",
            "37 % of 100 photos are migrated; between 12 and 20",
        ),
        (FACTS, "running", "good", "too early to say"),
        (
            replace(FACTS, wish=Wish(Control.PAUSED, "lunch", "anna")),
            "stopping",
            "attention",
            "anna (lunch): work",
        ),
        (
            replace(FACTS, wish=Wish(Control.PAUSED, "lunch", "anna"), workers=()),
            "paused",
            "attention",
            "Paused by anna (lunch). 37 %",
        ),
        (replace(FACTS, wish=Wish(Control.ABORTED), workers=()), "aborted", "attention", "rollback --all"),
        (
            replace(FACTS, suspended="Uploads are suspended."),
            "suspended",
            "attention",
            "Uploads are suspended.",
        ),
        (replace(FACTS, workers=(GONE,)), "cut_off", "attention", "batch-000001 is begun and not ended"),
        (
            replace(FACTS, batches=(batch(1, BatchState.ROLLING_BACK),), workers=()),
            "cut_off",
            "attention",
            "rollback --batch batch-000001",
        ),
        (
            replace(FACTS, batches=(batch(1, BatchState.ROLLING_BACK),)),
            "rolling_back",
            "attention",
            "Rolling back batch-000001",
        ),
        (
            replace(FACTS, batches=(batch(1, BatchState.FAILED),), workers=()),
            "failed",
            "bad",
            "batch-000001 failed",
        ),
        (
            replace(FACTS, batches=(batch(1, BatchState.PENDING),), workers=()),
            "waiting",
            "neutral",
            "Nobody is working. 37 %",
        ),
        (
            replace(FACTS, photos=PhotoCounts(total=5, rolled_back=5), batches=(), workers=()),
            "rolled_back",
            "neutral",
            "Rolled back",
        ),
        (
            replace(FACTS, photos=ALL, batches=(), workers=(), zero_delta_proven=True),
            "done",
            "good",
            "Done. All 100 photos are migrated; zero delta is proven.",
        ),
        (
            replace(FACTS, photos=ALL, batches=(), workers=(), findings=2),
            "done",
            "attention",
            "2 findings need a look",
        ),
        (
            replace(FACTS, photos=PhotoCounts(total=1_000, done=999, set_aside=1), batches=(), workers=()),
            "done",
            "good",
            "99 % of 1,000",
        ),
        (replace(FACTS, photos=PhotoCounts(), batches=(), workers=()), "empty", "neutral", "No photo"),
    ],
)
def test_the_sentence_says_what_matters_most(facts: Facts, kind: str, level: str, words: str) -> None:
    standing = stand(facts)
    assert (standing.kind, standing.level) == (kind, level)
    assert words in standing.sentence


def test_a_failed_batch_is_told_of_while_others_run() -> None:
    standing = stand(replace(FACTS, batches=(*RUNNING, batch(2, BatchState.FAILED))))
    assert standing.level == "attention"
    assert standing.sentence.endswith("Batch-000002 failed.")


def test_a_run_between_two_steps_still_runs(database: Database, config: PipelineConfig) -> None:
    half_done(database, batches=4, finished=2)  # the third failed, the fourth is running
    now = [utc_now()]
    reader = LiveReader(database, config, clock=lambda: now[0])
    assert reader.read().standing.kind == "running"
    _set_batch(database, "batch-000003", state=BatchState.PENDING)
    _set_batch(database, "batch-000004", lease_owner=None, lease_expires_at=None)
    assert reader.read().standing.kind == "running"  # Dagster begins its next asset
    now[0] += timedelta(seconds=31)
    assert reader.read().standing.kind == "cut_off"
    _set_batch(database, "batch-000004", state=BatchState.COMPLETED, updated_at=now[0])
    assert reader.read().standing.kind == "running"  # it is validated
    now[0] += timedelta(seconds=121)
    assert reader.read().standing.kind == "waiting"
    _set_batch(database, "batch-000003", state=BatchState.FAILED, updated_at=now[0])
    assert reader.read().standing.kind == "failed"


def _set_batch(database: Database, key: str, **values: Any) -> None:
    with database.write() as connection:
        connection.execute(sa.update(batch_table).where(batch_table.c.key == key).values(**values))


# --- signs of life


def test_signs_of_life_fade_and_a_dead_process_is_known_at_once(database: Database) -> None:
    half_done(database)
    now = utc_now()
    with database.write() as connection:
        mine = batch_table.c.key == "batch-000005"
        held = {"lease_owner": "web-1/12/abc", "lease_expires_at": now + timedelta(seconds=120)}
        connection.execute(sa.update(batch_table).where(mine).values(**held))
        ours = LiveBatch(
            "batch-000005", BatchState.RUNNING, None, "web-1/12/abc", held["lease_expires_at"], now, {}
        )

        def health(after_s: int, *, ended: bool = False) -> str:
            at = now + timedelta(seconds=after_s)
            (worker,) = workers(connection, [ours], at, has_ended=lambda _: ended)
            assert (worker.host, worker.process, worker.run) == ("web-1", "12", "abc")
            return worker.health

        assert [health(5), health(60), health(121), health(5, ended=True)] == [
            "alive",
            "quiet",
            "gone",
            "gone",
        ]
