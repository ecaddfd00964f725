"""The migration against a model: random sequences of everything that may happen, in any order.

The model is the application's own view: each row's last value that the application gave it. Whatever the
pipeline does, each row must show that value or, in its place, the CDN address of that very photo, whose
object is in the store; and after a rollback the rows are what they were, byte for byte.

Runs die: an exception that nothing in the pipeline expects, at a random commit or PUT, after which this
"process" can write nothing more, not even its lease. Others follow. To add an operation (repoint, pause,
clean-up): one more `@rule` that drives it and, where it changes what a row may show, `may_show`.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import BatchState
from photo_pipeline.core.migration import lease as lease_module
from photo_pipeline.core.migration import ledger
from photo_pipeline.core.migration.chunk_rewrite import ChunkRewriter
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.core.migration.rewrite import rewrite_batch
from photo_pipeline.core.migration.row_rewrite import RowRewriter
from photo_pipeline.core.migration.run import batches_to_roll_back, new_run_id, roll_back_batch
from photo_pipeline.core.migration.state import batch_statuses, settle_forward, working_on
from photo_pipeline.core.migration.upload import upload_batch
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.checksum import sha256_hex
from photo_pipeline_tests.core.catalog.small_site import put, small_site
from photo_pipeline_tests.core.migration.quick import quick_workers
from photo_pipeline_tests.faults.pretend_store import PretendStore, pretend
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import Site, item_photo

CDN = "https://cdn.example/"
FILES = 12
# In memory, where there is such a folder: hundreds of commits a second, whatever the disk.
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
SPELLINGS = (
    "/uploads/items/{}.jpg",
    "https://shop.example/uploads/items/{}.jpg",
    "/uploads//items/{}.jpg?v={}",
)
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["edit", "edit", "edit", "insert", "delete", "other", "bad"]),
        st.integers(0, 10**6),
    ),
    min_size=20,
    max_size=60,
)
JPEG = b"\xff\xd8\xff\xe0"


class Death(BaseException):
    """What ends a "process" of the model."""


class Fuse:
    """Counts commits and PUTs; at the chosen one, and at every write after it, raises Death."""

    def __init__(self, left: int, moment: str) -> None:
        self.left, self.moment, self.burnt = left, moment, False

    def pass_by(self, moment: str) -> None:
        if self.burnt:
            raise Death
        if moment == self.moment:
            self.left -= 1
            if self.left < 0:
                self.burnt = True
                raise Death


@contextmanager
def armed(fuse: Fuse, store: PretendStore) -> Iterator[None]:
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


def _dead_process_id() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
        return process.pid


class Application(RuleBasedStateMachine):
    """One application, its model, and everything that can happen to both."""

    operations = 0
    database_url: Any = None  # how to make a database for an example; None: SQLite in the example's folder

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="pp-model-", dir=MEMORY)
        home = Path(self._folder.name)
        url = type(self).database_url() if type(self).database_url else None
        self.site: Site = small_site(
            home, url=url, rows=[], batch_size=5, rewrite={"rows_per_transaction": 3}
        )
        self.site.configure(upload={"concurrency": 1})
        os.environ["APP_DATABASE_URL"] = self.site.url
        self.engine = self.site.engine()
        self.rows: dict[str, dict[str, Any]] = {}
        self.edited_since: set[str] = (
            set()
        )  # rows whose photo the application changed while they were migrated
        self.numbers = 0
        self.hashes: dict[str, set[str]] = {}
        for number in range(FILES):
            self._write_file(number)
        self.project = Project.load(self.site.config_path)
        ensure_schema(self.project.database)
        self.store = PretendStore(self.project.config.store)
        pretend(self.project, self.store)
        self._apply([("insert", seed) for seed in range(6)])

    def teardown(self) -> None:
        self.project.database.close()
        self.engine.dispose()
        self._folder.cleanup()

    # --- the application's side

    def _write_file(self, number: int) -> None:
        data = JPEG + f"photo {number}".encode() * 4
        put(self.site, f"items/{number}.jpg", data)
        self.hashes.setdefault(f"items/{number}.jpg", set()).add(sha256_hex(data))

    def _local_value(self, seed: int) -> str:
        self.numbers += 1
        return SPELLINGS[seed % len(SPELLINGS)].format(seed % FILES, self.numbers)

    def _shown(self, connection: sa.Connection, key: str) -> str | None:
        table = self.site.application
        return connection.execute(sa.select(table.c.original_url).where(table.c.id == key)).scalar_one()

    def _apply(self, edits: list[tuple[str, int]]) -> None:
        """Do the edits as the application would, one transaction each, and note them in the model."""
        for kind, seed in edits:
            type(self).operations += 1
            with self.engine.begin() as connection:
                self._edit(connection, kind, seed)

    def _edit(self, connection: sa.Connection, kind: str, seed: int) -> None:
        table = self.site.application
        if kind == "insert" or not self.rows:
            self.numbers += 1
            row = item_photo(self.numbers, self._local_value(seed))
            connection.execute(table.insert(), [row])
            self.rows[row["id"]] = row
            return
        key = sorted(self.rows)[seed % len(self.rows)]
        if kind == "delete":
            connection.execute(table.delete().where(table.c.id == key))
            del self.rows[key]
            return
        if kind == "other":
            change = {"alt": f"edited {seed}"}
        else:
            value = self._local_value(seed) if kind == "edit" else f"/uploads/items/none-{seed}.jpg"
            change = {"original_url": value}
            if (self._shown(connection, key) or "").startswith(CDN):
                self.edited_since.add(key)
        connection.execute(table.update().where(table.c.id == key).values(**change))
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
        type(self).operations += 1
        (self.site.uploads / f"items/{number}.jpg").unlink(missing_ok=True)

    @rule(number=st.integers(0, FILES - 1))
    def a_file_comes_back(self, number: int) -> None:
        type(self).operations += 1
        if not (self.site.uploads / f"items/{number}.jpg").exists():
            self._write_file(number)

    # --- the pipeline's side

    def _forward(self, between: list[tuple[str, int]]) -> None:
        project, database, config = self.project, self.project.database, self.project.config
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
                self._apply(between)
                between = []
                rewrite_batch(database, config, held, project.store, project.cdn)
                settle_forward(database, held)

    def _back(self) -> None:
        for key in batches_to_roll_back(self.project.database):
            roll_back_batch(self.project, key, run=new_run_id())

    @rule(between=st.one_of(st.just([]), EDITS))
    def migrate(self, between: list[tuple[str, int]]) -> None:
        type(self).operations += 1
        self._forward(between)
        if between:
            return
        left = [key for key, row in self._stored().items() if self._ought_to_be_migrated(key, row)]
        assert left == []

    def _ought_to_be_migrated(self, key: str, row: dict[str, Any]) -> bool:
        path = self._path(self.rows[key]["original_url"])
        is_local = not row["original_url"].startswith(CDN)
        return is_local and (self.site.uploads / path).exists()

    @rule()
    def roll_back(self) -> None:
        type(self).operations += 1
        self._back()
        for key, row in self._stored().items():
            expected = self.rows[key]
            assert row["original_url"] == expected["original_url"]
            if key not in self.edited_since:
                assert row == expected
        left = "SELECT COUNT(*) FROM pp_rewrite WHERE outcome = 'applied' AND photo_id IS NOT NULL"
        assert self.site.execute(left) == [(0,)]

    @rule(
        back=st.booleans(),
        left=st.integers(0, 60),
        moment=st.sampled_from(["before commit", "after commit", "before PUT", "after PUT"]),
    )
    def a_run_dies(self, back: bool, left: int, moment: str) -> None:
        type(self).operations += 1
        with armed(Fuse(left, moment), self.store):
            try:
                self._back() if back else self._forward([])
            except Death:
                self.project.database.close()

    # --- what holds at any time

    def _stored(self) -> dict[str, dict[str, Any]]:
        with self.engine.connect() as connection:
            found = connection.execute(sa.select(self.site.application)).mappings()
            return {row["id"]: dict(row) for row in found}

    def _path(self, value: str) -> str:
        return (
            value.partition("?")[0].rpartition("items/")[1] + value.partition("?")[0].rpartition("items/")[2]
        )

    def may_show(self, expected: str, shown: str) -> bool:
        """Whether a row whose value the application last set to `expected` may show `shown` now."""
        if shown == expected:
            return True
        key = shown.removeprefix(CDN)
        sources = self.hashes.get(self._path(expected), set())
        return shown.startswith(CDN) and key in self.store.objects and any(f"/{h}/" in key for h in sources)

    @invariant()
    def no_row_shows_anything_else(self) -> None:
        stored = self._stored()
        assert set(stored) == set(self.rows)
        for key, row in stored.items():
            expected = self.rows[key]
            assert self.may_show(expected["original_url"], row["original_url"]), (expected, row)
            assert row["alt"] == expected["alt"]


DEFAULT = settings(
    max_examples=10,
    stateful_step_count=20,
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
    # Each example's schema is made once; asking Alembic again at each inventory takes most of its time.
    monkeypatch.setattr("photo_pipeline.core.catalog.inventory.ensure_schema", lambda _database: None)


def check(machine: type[Application], chosen: settings) -> None:
    machine.operations = 0
    run_state_machine_as_test(machine, settings=chosen)
    print(f"\n{machine.operations} operations over {chosen.max_examples} examples")


def test_random_sequences_of_everything_agree_with_the_model() -> None:
    check(Application, DEFAULT)
    assert Application.operations > 1_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_operations_agree_with_the_model() -> None:
    check(Application, settings(DEFAULT, max_examples=60, stateful_step_count=25))
    assert Application.operations >= 10_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_sequences_agree_with_the_model_on_postgresql(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Application, "database_url", staticmethod(postgres.new_database))
    check(Application, DEFAULT)


def _swap_blindly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewrite whatever the row says now: the application's edits between inventory and rewrite are lost."""
    monkeypatch.setattr(ChunkRewriter, "_rewrite_plain", lambda *_: [])  # one row at a time
    monkeypatch.setattr(RowRewriter, "_unedited", lambda _self, _connection, _address, photos, *_: photos)


def _forget_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no ledger entry for what was written back, so that a rollback leaves it."""
    monkeypatch.setattr(ChunkRewriter, "_rewrite_plain", lambda *_: [])  # one row at a time
    record = ledger.record

    def some(connection: sa.Connection, entries: list[Any]) -> None:
        record(connection, [entry for entry in entries if entry.photos])

    monkeypatch.setattr(ledger, "record", some)


def _upload_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count objects as proven that are not there."""
    monkeypatch.setattr(PretendStore, "put_new", lambda *_args, **_options: True)
    monkeypatch.setattr("photo_pipeline.core.migration.upload.is_proven", lambda *_args, **_options: True)
    monkeypatch.setattr("photo_pipeline.core.migration.rewrite.run_canary", lambda *_args: None)
    # The backup is proven in the store, too, and would find out first.
    backup = "photo_pipeline.core.migration.rewrite.back_up_"
    monkeypatch.setattr(f"{backup}rows", lambda _database, _config, _lease, _store, ready, _leading: ready)
    monkeypatch.setattr(f"{backup}ledger", lambda *_args: None)


@pytest.mark.parametrize(
    "remove",
    [_swap_blindly, pytest.param(_forget_the_ledger, marks=pytest.mark.slow), _upload_nothing],
)
def test_without_its_defence_the_model_disagrees(monkeypatch: pytest.MonkeyPatch, remove: Any) -> None:
    remove(monkeypatch)
    # KeyError: whoever replaces a URL in a cell notices that it is not there.
    with pytest.raises((AssertionError, ExceptionGroup, KeyError)):
        check(Application, settings(DEFAULT, max_examples=30, phases=[Phase.generate]))
