"""The migration against a model: random sequences of everything that may happen, in any order.

The model is the application's own view: each cell's last value that the application gave it. Whatever the
pipeline does, each cell must show that value or, in place of a photo's URL, an address of ours of that very
photo, whose object is in the store; and after a rollback the rows are what they were, byte for byte.

Runs die: an exception that nothing in the pipeline expects, at a random commit or PUT, after which this
"process" can write nothing more, not even its lease. Others are paused or aborted at a random moment, after
which no row may change. To add an operation: one more `@rule` that drives it and, where it changes what a
row may show, `may_show`.
"""

import json
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import BatchState, PhotoState, rewrite_table
from photo_pipeline.core.errors import PausedError
from photo_pipeline.core.migration import control, watch
from photo_pipeline.core.migration import lease as lease_module
from photo_pipeline.core.migration.backup import BackedUp
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.photos import Photo, batch_photos
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.core.migration.rewrite import rewrite_batch
from photo_pipeline.core.migration.row_parts import RowPart, whole_row
from photo_pipeline.core.migration.run import new_run_id, repoint_whole_batch, roll_back_batch
from photo_pipeline.core.migration.selection import (
    batches_to_roll_back,
    batches_to_validate,
    locate_with_copies,
)
from photo_pipeline.core.migration.state import batch_statuses, settle_forward, working_on
from photo_pipeline.core.migration.upload import upload_batch
from photo_pipeline.core.migration.watch import require_running
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline_tests.core.catalog.small_site import put, small_site
from photo_pipeline_tests.core.migration.quick import quick_workers
from photo_pipeline_tests.faults.pretend_store import PretendStore, pretend
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo

ADDRESSES = ("https://cdn.example", "https://img.example")
PREFIXES = ("small/photos", "small/moved")
WIDTHS = (1200, 640)
FILES = 12
PER_PHOTO = 2 * 3 + 1  # objects: variants in each format, and the original
# In memory, where there is such a folder: hundreds of commits a second, whatever the disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SPELLINGS = (
    "/uploads/items/{}.jpg",
    "https://shop.example/uploads/items/{}.jpg",
    "/uploads//items/{}.jpg?v={}",
)
# What a photo is called in a cell, locally or by us; none of them is the beginning of another.
NAMES = re.compile(r"(?:https://[a-z.]+)?/[a-z/]+items/[a-z0-9-]+\.jpg(?:\?v=\d+)?|https://[^\"]+/full\.jpg")
POSTS: dict[str, Any] = {
    "name": "posts",
    "table": "posts",
    "key": ["id"],
    "fields": [{"kind": "text", "column": "body", "root": "uploads"}],
    "rewrite": {"mode": "url", "format": "jpeg"},
}
KINDS = ("edit", "edit", "edit", "insert", "delete", "other", "bad")
EDITS = st.lists(
    st.tuples(
        st.sampled_from([*KINDS, "publish", "reword", "reword", "amend", "retract"]), st.integers(0, 10**6)
    ),
    min_size=20,
    max_size=60,
)
# Where SQLite lets others write.
MOMENTS = st.sampled_from(["after commit", "before PUT", "after PUT"])
WORK = st.sampled_from(["forward", "back", "repoint", "repoint --recipe"])
JPEG = b"\xff\xd8\xff\xe0"
Row = dict[str, Any]
Key = tuple[str, Any]
"""Table and id of a row."""
CELL = {"item_photos": "original_url", "posts": "body"}


class Death(BaseException):
    """What ends a "process" of the model."""


class Fuse:
    """Counts commits and PUTs; at the chosen one it burns, which `at_last` makes something of."""

    def __init__(self, left: int, moment: str, at_last: Callable[[], None], *, lasts: bool) -> None:
        self.left, self.moment, self.burnt = left, moment, False
        self._at_last, self._lasts, self._burning = at_last, lasts, False

    def pass_by(self, moment: str) -> None:
        if self._burning:
            return
        if self.burnt and self._lasts:
            self._at_last()
        if moment == self.moment and not self.burnt:
            self.left -= 1
            if self.left < 0:
                self.burnt = self._burning = True
                try:
                    self._at_last()
                finally:
                    self._burning = False


@contextmanager
def armed(fuse: Fuse) -> Iterator[None]:
    """Let the fuse see each commit of the state and rows, and each PUT."""
    write, put_new = Database.write, PretendStore.put_new

    @contextmanager
    def fused_write(database: Database, **options: Any) -> Iterator[sa.Connection]:
        fuse.pass_by("begin")
        with write(database, **options) as connection:
            yield connection
            fuse.pass_by("before commit")
        fuse.pass_by("after commit")

    def fused_put(self: PretendStore, key: str, data: bytes, **options: Any) -> bool:
        fuse.pass_by("before PUT")
        created = put_new(self, key, data, **options)
        fuse.pass_by("after PUT")
        return created

    Database.write = fused_write  # type: ignore[method-assign]
    PretendStore.put_new = fused_put  # type: ignore[method-assign]
    try:
        yield
    finally:
        Database.write = write  # type: ignore[method-assign]
        PretendStore.put_new = put_new  # type: ignore[method-assign]


def _die() -> None:
    raise Death


def _dead_process_id() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
        return process.pid


class Application(RuleBasedStateMachine):
    """One application, its model, and everything that can happen to both."""

    done: ClassVar[Counter[str]] = Counter()
    """Operations by kind, over all examples."""
    database_url: Any = None  # how to make a database for an example; None: SQLite in the example's folder

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="pp-model-", dir=MEMORY)
        home = Path(self._folder.name)
        url = type(self).database_url() if type(self).database_url else None
        self.site: Site = small_site(
            home,
            url=url,
            rows=[],
            sources=[ITEM_PHOTOS, POSTS],
            batch_size=5,
            rewrite={"rows_per_transaction": 3},
        )
        self.site.execute("CREATE TABLE posts (id INTEGER PRIMARY KEY, body TEXT, note TEXT)")
        self.tables = {
            "item_photos": self.site.application,
            "posts": sa.table("posts", sa.column("id"), sa.column("body"), sa.column("note")),
        }
        self.site.configure(upload={"concurrency": 1})
        os.environ["APP_DATABASE_URL"] = self.site.url
        self.engine = self.site.engine()
        self.rows: dict[Key, Row] = {}
        # Rows that the application changed while they showed the store: what a rollback leaves, or may leave.
        self.edited_since: set[Key] = set()
        self.numbers = 0
        self.hashes: dict[str, set[str]] = {}
        self.is_stopped = False
        self.repointed: dict[str, list[str]] = {}  # why the last repoint left some, for a failure's message
        for number in range(FILES):
            self._write_file(number)
        self.store: PretendStore | None = None
        self.project = self._opened()
        self._apply([("insert", seed) for seed in range(6)] + [("publish", seed) for seed in range(3)])

    def teardown(self) -> None:
        self.project.database.close()
        self.engine.dispose()
        self._folder.cleanup()

    def _opened(self) -> Project:
        """The project under the present configuration, with one and the same store."""
        project = Project.load(self.site.config_path)
        if self.store is None:
            ensure_schema(project.database)
            self.store = PretendStore(project.config.store)
        pretend(project, self.store)
        project.__dict__["workers"] = quick_workers
        return project

    def _count(self, kind: str) -> None:
        type(self).done[kind] += 1

    # --- the application's side

    def _write_file(self, number: int) -> None:
        data = JPEG + f"photo {number}".encode() * 4
        put(self.site, f"items/{number}.jpg", data)
        self.hashes.setdefault(f"items/{number}.jpg", set()).add(sha256_hex(data))

    def _local_value(self, seed: int) -> str:
        self.numbers += 1
        return SPELLINGS[seed % len(SPELLINGS)].format(seed % FILES, self.numbers)

    def _local_text(self, seed: int) -> str:
        named = (self._local_value(seed + step) for step in range(1 + seed % 4))
        return f"<p>{seed}</p>\r\n" + "".join(f'<img  src="{each}">' for each in named)

    def _shown(self, connection: sa.Connection, key: Key) -> str:
        table = self.tables[key[0]]
        query = sa.select(table.c[CELL[key[0]]]).where(table.c.id == key[1])
        return str(connection.execute(query).scalar_one())

    def _apply(self, edits: list[tuple[str, int]]) -> None:
        """Do the edits as the application would, one transaction each, and note them in the model."""
        for kind, seed in edits:
            self._count("edits")
            with self.engine.begin() as connection:
                if kind in KINDS:
                    self._edit_photo(connection, kind, seed)
                else:
                    self._edit_post(connection, kind, seed)

    def _edit_photo(self, connection: sa.Connection, kind: str, seed: int) -> None:
        keys = sorted(key for key in self.rows if key[0] == "item_photos")
        if kind == "insert" or not keys:
            self.numbers += 1
            self._insert(connection, "item_photos", item_photo(self.numbers, self._local_value(seed)))
            return
        key = keys[seed % len(keys)]
        if kind == "delete":
            self._delete(connection, key)
        elif kind == "other":
            self._update(connection, key, {"alt": f"edited {seed}"})
        else:
            value = self._local_value(seed) if kind == "edit" else f"/uploads/items/none-{seed}.jpg"
            self._update(connection, key, {"original_url": value})

    def _edit_post(self, connection: sa.Connection, kind: str, seed: int) -> None:
        keys = sorted(key for key in self.rows if key[0] == "posts")
        if kind == "publish" or not keys:
            self.numbers += 1
            body = self._local_text(seed)
            self._insert(connection, "posts", {"id": self.numbers, "body": body, "note": "new"})
            return
        key = keys[seed % len(keys)]
        if kind == "retract":
            self._delete(connection, key)
        elif kind == "reword":
            self._update(connection, key, {"body": self._local_text(seed)})
            self.edited_since.discard(key)  # nothing of ours is left in it
        else:
            # As an editor in a browser does: the text as it is shown, with a photo more.
            more = f'<img src="{self._local_value(seed)}">'
            shown, expected = self._shown(connection, key), self.rows[key]["body"]
            self._update(connection, key, {"body": shown + more})
            self.rows[key]["body"] = expected + more

    def _insert(self, connection: sa.Connection, table: str, row: Row) -> None:
        connection.execute(self.tables[table].insert(), [row])
        self.rows[table, row["id"]] = row

    def _delete(self, connection: sa.Connection, key: Key) -> None:
        table = self.tables[key[0]]
        connection.execute(table.delete().where(table.c.id == key[1]))
        del self.rows[key]

    def _update(self, connection: sa.Connection, key: Key, change: Row) -> None:
        table = self.tables[key[0]]
        if CELL[key[0]] in change and self._is_ours(self._shown(connection, key)):
            self.edited_since.add(key)
        connection.execute(table.update().where(table.c.id == key[1]).values(**change))
        self.rows[key] |= change

    @rule(edits=EDITS)
    def application_works(self, edits: list[tuple[str, int]]) -> None:
        self._apply(edits)

    @rule(edits=EDITS)
    def application_works_on(self, edits: list[tuple[str, int]]) -> None:
        # Twice among the rules, as it is the more usual thing to happen.
        self._apply(edits)

    @rule(number=st.integers(0, FILES - 1))
    def a_file_is_lost(self, number: int) -> None:
        self._count("files")
        (self.site.uploads / f"items/{number}.jpg").unlink(missing_ok=True)

    @rule(number=st.integers(0, FILES - 1))
    def a_file_comes_back(self, number: int) -> None:
        self._count("files")
        if not (self.site.uploads / f"items/{number}.jpg").exists():
            self._write_file(number)

    @rule()
    def the_staging_folder_is_emptied(self) -> None:
        self._count("files")
        for path in self.project.config.state.staging_dir.rglob("*"):
            if path.is_file():
                path.unlink()

    # --- the operator's side

    @rule(address=st.sampled_from(ADDRESSES), prefix=st.sampled_from(PREFIXES), width=st.sampled_from(WIDTHS))
    def the_configuration_changes(self, address: str, prefix: str, width: int) -> None:
        self._count("configurations")
        full = {"fit": "inside", "width": width, "height": width}
        self.site.configure(
            cdn={"base_url": address},
            store=self.site.settings["store"] | {"prefix": prefix},
            variants={"default": {"full": full, "thumb": {"fit": "cover", "width": 150, "height": 150}}},
        )
        self.project.database.close()
        self.project = self._opened()

    def _work(self, what: str) -> None:
        self._count(what)
        if what == "forward":
            self._forward()
        elif what == "back":
            before = watch.wish(self.project.database)
            for key in batches_to_roll_back(self.project.database):
                roll_back_batch(self.project, key, run=new_run_id(), wish_before=before)
        else:
            for key in batches_to_validate(self.project.database):
                if self._state(key) != BatchState.ROLLING_BACK:  # refused: that is to be finished first
                    run, recipe = new_run_id(), what == "repoint --recipe"
                    outcome = repoint_whole_batch(self.project, key, run=run, present_recipe=recipe)
                    self.repointed[key] = outcome.reasons

    def _state(self, batch: str) -> str:
        return next(each.state for each in batch_statuses(self.project.database) if each.key == batch)

    def _forward(self) -> None:
        project, database, config = self.project, self.project.database, self.project.config
        require_running(database)
        self.site.inventory(project)
        for status in batch_statuses(database):
            key = status.key
            if status.state == BatchState.ROLLING_BACK:
                roll_back_batch(project, key, run=new_run_id())
            with (
                BatchLease(database, key, run=new_run_id()) as held,
                working_on(database, held, BatchState.RUNNING),
            ):
                process_batch(
                    database, config, held, quick_workers, retry_failed=True, include_rolled_back=True
                )
                upload_batch(database, config, held, project.store, quick_workers)
                rewrite_batch(database, config, held, project.store, project.cdn)
                settle_forward(database, held)

    @rule()
    def migrate(self) -> None:
        self._go_on()
        self._work("forward")
        assert [key for key, row in self._stored().items() if self._is_left(key, row)] == []

    @rule(what=WORK, left=st.integers(0, 60), moment=MOMENTS, edits=EDITS)
    def the_application_works_during_a_run(
        self, what: str, left: int, moment: str, edits: list[tuple[str, int]]
    ) -> None:
        self._go_on()
        with armed(Fuse(left, moment, lambda: self._apply(edits), lasts=False)):
            self._work(what)

    def _is_left(self, key: Key, row: Row) -> bool:
        """Whether the row names a photo by its local name that is there to be migrated."""
        local = [name for name in NAMES.findall(row[CELL[key[0]]]) if not self._is_ours(name)]
        return any((self.site.uploads / self._path(name)).exists() for name in local)

    @rule()
    def roll_back(self) -> None:
        self._work("back")
        for key, row in self._stored().items():
            if key not in self.edited_since:
                assert row == self.rows[key]
            elif key[0] == "item_photos":
                assert row["original_url"] == self.rows[key]["original_url"]
        left = "SELECT COUNT(*) FROM pp_rewrite WHERE outcome = 'applied' AND photo_id IS NOT NULL"
        assert self.site.execute(left) == [(0,)]

    @rule(seed=st.integers(0, 10**6))
    def roll_back_one_photo(self, seed: int) -> None:
        self._count("back --photo")
        query = (
            "SELECT id, source, row_key, value, new_value FROM pp_photo WHERE state = 'migrated' ORDER BY id"
        )
        migrated = self.site.execute(query)
        if not migrated:
            return
        photo = migrated[seed % len(migrated)]
        before = self._stored()
        located = locate_with_copies(self.project.database, self.project.config, [photo.id])
        for batch, ids in located.items():
            roll_back_batch(self.project, batch, run=new_run_id(), only_photos=ids)
        for key, row in self._stored().items():
            if not self._is_of(photo, key):
                assert row == before[key]  # no other row is touched
            elif key not in self.edited_since:
                cell = CELL[key[0]]
                names = zip(NAMES.findall(self.rows[key][cell]), NAMES.findall(row[cell]), strict=True)
                assert all(name == shown for name, shown in names if name == photo.value)
                others = [name for name in NAMES.findall(before[key][cell]) if name != photo.new_value]
                assert [n for n in NAMES.findall(row[cell]) if n != photo.value] == [
                    name for name in others if name != photo.value
                ]

    def _is_of(self, photo: Any, key: Key) -> bool:
        return photo.source == key[0] and str(key[1]) in photo.row_key

    @rule(recipe=st.booleans())
    def repoint(self, recipe: bool) -> None:
        self._go_on()
        self._finish_rollbacks()
        self._work("repoint --recipe" if recipe else "repoint")
        config = self.project.config
        address = f"{config.cdn.base_url}/{config.store.prefix}/"
        for key, row in self._stored().items():
            if key in self.edited_since:
                continue
            ours = [name for name in NAMES.findall(row[CELL[key[0]]]) if self._is_ours(name)]
            assert [name for name in ours if not name.startswith(address)] == [], self.repointed

    def _finish_rollbacks(self) -> None:
        for status in batch_statuses(self.project.database):
            if status.state == BatchState.ROLLING_BACK:
                roll_back_batch(self.project, status.key, run=new_run_id())

    def _go_on(self) -> None:
        """Resume; if the migration was stopped, see first that it does nothing."""
        if not self.is_stopped:
            return
        before = self._stored(), len(self.store_.objects)
        for what in ("forward", "repoint --recipe"):
            if what == "forward" or batches_to_validate(self.project.database):
                with pytest.raises(PausedError):
                    self._work(what)
        assert (self._stored(), len(self.store_.objects)) == before
        control.resume(self.project.database, run=new_run_id())
        self.is_stopped = False

    @property
    def store_(self) -> PretendStore:
        assert self.store is not None
        return self.store

    @rule(
        what=WORK,
        left=st.integers(0, 60),
        moment=st.sampled_from(["before commit", "after commit", "before PUT", "after PUT"]),
    )
    def a_run_dies(self, what: str, left: int, moment: str) -> None:
        self._count("deaths")
        with armed(Fuse(left, moment, _die, lasts=True)):
            try:
                self._work(what)
            except PausedError:
                assert self.is_stopped
            except Death:
                self.project.database.close()

    @rule(
        what=WORK,
        left=st.integers(0, 60),
        moment=MOMENTS,
        how=st.sampled_from(["pause", "pause", "abort"]),
    )
    def a_run_is_stopped(self, what: str, left: int, moment: str, how: Literal["pause", "abort"]) -> None:
        """Between two transactions: from then on no row may change, but by a rollback after an abort."""
        self._go_on()
        self._count("stops")
        seen: list[tuple[dict[Key, Row], int]] = []

        def stop() -> None:
            act = control.pause if how == "pause" else control.abort
            act(self.project.database, reason="the model wants it", run=new_run_id())
            self.is_stopped = True
            seen.append((self._stored(), len(self.store_.sent)))

        with armed(Fuse(left, moment, stop, lasts=False)):
            try:
                self._work(what)
            except PausedError:
                assert self.is_stopped
        if seen and not (what == "back" and how == "abort"):
            rows, sent = seen[0]
            assert self._stored() == rows
            assert len(self.store_.sent) <= sent + 2 * PER_PHOTO

    # --- what holds at any time

    def _stored(self) -> dict[Key, Row]:
        found: dict[Key, Row] = {}
        with self.engine.connect() as connection:
            for name, table in self.tables.items():
                rows = connection.execute(sa.select(table)).mappings()
                found |= {(name, row["id"]): dict(row) for row in rows}
        return found

    def _is_ours(self, text: str) -> bool:
        return any(address in text for address in ADDRESSES)

    def _path(self, value: str) -> str:
        path = value.partition("?")[0]
        return "items/" + path.rpartition("items/")[2]

    def may_show(self, expected: str, shown: str) -> bool:
        """Whether a place in which the application last wrote `expected` may show `shown` now."""
        if shown == expected:
            return True
        address = next((each for each in ADDRESSES if shown.startswith(f"{each}/")), None)
        key = shown.removeprefix(f"{address}/")
        sources = self.hashes.get(self._path(expected), set())
        return address is not None and key in self.store_.objects and any(f"/{h}/" in key for h in sources)

    @invariant()
    def no_row_shows_anything_else(self) -> None:
        stored = self._stored()
        assert set(stored) == set(self.rows)
        for key, row in stored.items():
            cell, expected = CELL[key[0]], self.rows[key]
            assert NAMES.sub("*", row[cell]) == NAMES.sub("*", expected[cell]), (expected, row)
            places = zip(NAMES.findall(expected[cell]), NAMES.findall(row[cell]), strict=True)
            assert all(self.may_show(was, shown) for was, shown in places), (expected, row)
            assert row.get("alt") == expected.get("alt")
            assert row.get("note") == expected.get("note")


DEFAULT = settings(
    max_examples=12,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def dead_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every lease belongs to a process that is dead by the time another asks, as after a real kill."""
    owner = f"{lease_module.socket.gethostname()}/{_dead_process_id()}"
    monkeypatch.setattr(lease_module, "_owner", lambda run: f"{owner}/{run}")
    monkeypatch.setenv("APP_DATABASE_URL", "")
    # Whether a stop is wanted is looked for each time, not each 0.2 s, in which a whole run fits here.
    monkeypatch.setattr(watch, "_LOOK_EVERY_S", 0.0)
    # Each example's schema is made once; asking Alembic again at each inventory takes most of its time.
    monkeypatch.setattr("photo_pipeline.core.catalog.inventory.ensure_schema", lambda _database: None)


def check(machine: type[Application], chosen: settings) -> int:
    """Run the examples; print and return how many operations they had."""
    machine.done = Counter()
    run_state_machine_as_test(machine, settings=chosen)
    kinds = ", ".join(f"{count} {kind}" for kind, count in machine.done.most_common())
    print(f"\n{machine.done.total()} operations over {chosen.max_examples} examples: {kinds}")
    return machine.done.total()


@pytest.mark.timeout(900)
def test_ten_thousand_operations_agree_with_the_model() -> None:
    """The same examples each time, but for the order of sets: they have between 160 and 270 operations."""
    played, steps = check(Application, settings(DEFAULT, max_examples=50)), DEFAULT.stateful_step_count
    while played < 10_000:
        steps += 5
        played += check(Application, settings(DEFAULT, max_examples=10, stateful_step_count=steps))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_ten_thousand_other_operations_agree_with_the_model(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, database: str
) -> None:
    """Others in each run; what fails is printed with the code that repeats it."""
    if database == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        monkeypatch.setattr(Application, "database_url", staticmethod(server.new_database))
    assert check(Application, settings(DEFAULT, max_examples=50, derandomize=False)) >= 10_000


def _swap_blindly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewrite whatever the row says now: the application's edits between inventory and rewrite are lost."""

    def as_they_are(database: Database, batch: str, *states: Any) -> list[Photo]:
        photos = batch_photos(database, batch, *states)
        with database.read() as connection:
            return [_as_it_is(connection, photo) for photo in photos]

    monkeypatch.setattr("photo_pipeline.core.migration.rewrite.batch_photos", as_they_are)


def _as_it_is(connection: sa.Connection, photo: Photo) -> Photo:
    if photo.source != "item_photos" or photo.state != PhotoState.UPLOADED:
        return photo
    (key,) = json.loads(photo.row_key)
    query = sa.text("SELECT original_url FROM item_photos WHERE id = :key")
    return replace(photo, value=connection.execute(query, {"key": key}).scalar() or photo.value)


def _forget_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep no ledger entry of what was written back, so that a rollback leaves it."""
    write = Database.write

    @contextmanager
    def forgetting(database: Database, **options: Any) -> Iterator[sa.Connection]:
        with write(database, **options) as connection:
            yield connection
            if "pp_rewrite" in sa.inspect(connection).get_table_names():
                connection.execute(sa.delete(rewrite_table).where(rewrite_table.c.photo_id.is_(None)))

    monkeypatch.setattr(Database, "write", forgetting)


def _upload_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count objects as proven that are not there."""
    monkeypatch.setattr(PretendStore, "put_new", lambda *_args, **_options: True)
    monkeypatch.setattr(
        "photo_pipeline.core.migration.one_object.proven_by", lambda *_args, **_options: "checksum"
    )
    monkeypatch.setattr("photo_pipeline.core.migration.rewrite.run_canary", lambda *_args: None)
    # The backup is proven in the store, too, and would find out first.
    backup = "photo_pipeline.core.migration.rewrite.back_up_"
    monkeypatch.setattr(
        f"{backup}rows", lambda _database, _config, _lease, _store, ready, _leading: BackedUp(ready)
    )
    monkeypatch.setattr(f"{backup}ledger", lambda *_args: None)


def _never_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work on, whoever has paused the migration."""
    monkeypatch.setattr(watch.ControlWatch, "stopped", lambda _self: None)


def _repoint_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say of a repoint that there was nothing to do."""
    monkeypatch.setattr("photo_pipeline.core.migration.repoint.batch_photos", lambda *_args: [])


def _take_the_row_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one photo's rollback take every photo of its row."""

    def whole(wanted: list[int], entries: list[Any], links: Any, *_: Any) -> RowPart | None:
        part = whole_row(entries, links)
        return part if part.photos.intersection(wanted) else None

    monkeypatch.setattr("photo_pipeline.core.migration.rollback.part_with", whole)


@pytest.mark.parametrize(
    "remove",
    [
        pytest.param(_swap_blindly, marks=pytest.mark.slow),
        _upload_nothing,
        pytest.param(_never_stop, marks=pytest.mark.slow),
    ],
)
def test_without_its_defence_the_model_disagrees(monkeypatch: pytest.MonkeyPatch, remove: Any) -> None:
    remove(monkeypatch)
    first = settings(DEFAULT, max_examples=30, phases=[Phase.generate], report_multiple_bugs=False)
    # KeyError: whoever replaces a URL in a cell notices that it is not there.
    with pytest.raises((AssertionError, ExceptionGroup, KeyError)):
        check(Application, first)


def _nothing(_monkeypatch: pytest.MonkeyPatch) -> None: ...


def _there_and_back(model: Application) -> None:
    model.roll_back()


def _to_another_address(model: Application) -> None:
    model.the_configuration_changes(ADDRESSES[1], PREFIXES[0], WIDTHS[0])
    model.repoint(recipe=False)


def _one_photo_of_a_row_with_several(model: Application) -> None:
    migrated = model.site.execute("SELECT row_id FROM pp_photo WHERE state = 'migrated' ORDER BY id")
    rows = [row[0] for row in migrated]
    model.roll_back_one_photo(next(place for place, row in enumerate(rows) if rows.count(row) > 1))


def _edits_during_a_run(model: Application) -> None:
    model.application_works([("insert", seed) for seed in range(6)])
    model.the_application_works_during_a_run("forward", 0, "after PUT", [("edit", n) for n in range(20)])


def _a_pause_during_a_run(model: Application) -> None:
    model.application_works([("insert", seed) for seed in range(6)])
    model.a_run_is_stopped("forward", 0, "after PUT", "pause")


# What is done after a migration, and which of the model's own looks is to find that the defence is gone.
LOOKS = (
    (_forget_the_ledger, _there_and_back, "roll_back"),
    (_repoint_nothing, _to_another_address, "repoint"),
    (_take_the_row_along, _one_photo_of_a_row_with_several, "roll_back_one_photo"),
    (_swap_blindly, _edits_during_a_run, "no_row_shows_anything_else"),
    (_never_stop, _a_pause_during_a_run, "a_run_is_stopped"),
)


@pytest.mark.parametrize(("remove", "then", "finder"), LOOKS)
def test_without_its_defence_each_look_of_the_model_finds_it(
    monkeypatch: pytest.MonkeyPatch, remove: Any, then: Callable[[Application], None], finder: str
) -> None:
    """By its own assertion: an error of the harness, or one that the product raises, is not enough."""
    _played(_nothing, monkeypatch, then)
    with pytest.raises(AssertionError) as caught:
        _played(remove, monkeypatch, then)
    inside = [each.name for each in caught.traceback if Path(each.path) == Path(__file__)]
    assert inside[-1] == finder, caught.getrepr(style="short")


def _played(remove: Any, monkeypatch: pytest.MonkeyPatch, then: Callable[[Application], None]) -> None:
    model = Application()
    try:
        model.migrate()
        model.no_row_shows_anything_else()
        with monkeypatch.context() as patch:
            remove(patch)
            then(model)
            model.no_row_shows_anything_else()
    finally:
        model.teardown()
