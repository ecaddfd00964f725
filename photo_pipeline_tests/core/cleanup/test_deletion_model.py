"""Random sequences of deletions, migrations and an application that writes at the worst moments.

The promise: no row names an object that is not in the bucket, whatever was deleted, interrupted or taken
back, and however the application copies and moves URLs meanwhile. The store is in this process's memory (it
keeps versions as S3 does), so that ten thousand operations take minutes; that deletion gets along with a real
server is shown in `test_deletion`.
"""

import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.cleanup import deletion_objects, deletion_plan, deletion_undo
from photo_pipeline.core.cleanup.deletion import confirm_deletion, unfinished_deletions
from photo_pipeline.core.cleanup.deletion_plan import Selection, plan_deletion
from photo_pipeline.core.cleanup.deletion_undo import undo_deletion
from photo_pipeline.core.errors import ConfigurationError, GuardRefusedError, StoreError
from photo_pipeline.core.migration import lease as lease_module
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.rewrite import rewrite_batch
from photo_pipeline.core.migration.run import new_run_id, roll_back_batch
from photo_pipeline.core.migration.selection import batches_to_migrate
from photo_pipeline.core.migration.state import settle_forward
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.objects import Deleted, ObjectVersion, StoredObject
from photo_pipeline_tests.core.catalog.small_site import put, small_site
from photo_pipeline_tests.core.cleanup.deletion_steps import place_of
from photo_pipeline_tests.core.migration.quick import quick_workers, upload
from photo_pipeline_tests.faults.pretend_store import PretendStore, pretend
from photo_pipeline_tests.sites import ITEM_PHOTOS, item_photo

CONTENTS = 4
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
OURS = re.compile(r"https://cdn\.example/(\S+?\.jpg)")
# Steps of a deletion before which somebody else acts, or the process dies.
STEPS = ("change_rows", "_claim", "_delete", "_note", "_bring_back_what_is_named", "end")
AFTER_THE_LOOK = ("_delete", "_note", "_bring_back_what_is_named")
WRITES = st.lists(
    st.tuples(
        st.sampled_from(["insert", "copy", "copy", "move", "mention", "empty", "remove"]),
        st.integers(0, 10**6),
    ),
    min_size=1,
    max_size=4,
)


class Death(BaseException):
    """What ends a "process" of the model."""


class VersionedStore(PretendStore):
    """Also deletes, and keeps what it deleted."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.kept: dict[str, tuple[bytes, dict[str, Any]]] = {}
        self.number = 0

    def delete_object(self, expected: StoredObject) -> Deleted:
        if expected.key not in self.objects:
            return Deleted(expected.key, "absent")
        self.number += 1
        version = f"v{self.number}"
        self.kept[version] = self.objects.pop(expected.key)
        return Deleted(expected.key, "deleted", version, f"m-{version}")

    def undelete(self, deleted: Deleted) -> bool:
        if not deleted.can_be_undone or deleted.key in self.objects:
            return False
        if deleted.version_id not in self.kept:
            return False
        self.objects[deleted.key] = self.kept.pop(str(deleted.version_id))
        return True


class Shop(RuleBasedStateMachine):
    """A shop that shows few photos in many rows."""

    done: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="pp-", dir=MEMORY)
        fields = [*ITEM_PHOTOS["fields"][:1]]
        self.site = small_site(
            Path(self._folder.name),
            rows=[],
            sources=[ITEM_PHOTOS | {"fields": fields}],
            batch_size=3,
            upload={"concurrency": 1},
        )
        os.environ["APP_DATABASE_URL"] = self.site.url
        self.numbers = 0
        for number in range(CONTENTS):
            for twin in "ab":
                put(self.site, f"items/{number}{twin}.jpg", b"\xff\xd8\xff\xe0" + bytes([number]) * 60)
        self.project = Project.load(self.site.config_path)
        ensure_schema(self.project.database)
        self.store = VersionedStore(self.project.config.store)
        pretend(self.project, self.store)
        self.project.__dict__["workers"] = quick_workers
        self.engine = self.site.engine()
        self.tokens: list[str] = []
        self.late: set[str] = set()  # keys that rows began to name in the middle of a deletion
        self.write([("insert", seed) for seed in range(6)])
        self.migrate()

    def teardown(self) -> None:
        self.project.database.close()
        self.engine.dispose()
        self._folder.cleanup()

    # --- the application

    def rows(self) -> list[Any]:
        with self.engine.connect() as connection:
            query = "SELECT id, original_url, alt FROM item_photos ORDER BY id"
            return list(connection.exec_driver_sql(query))

    def named(self) -> dict[str, str]:
        """Return the keys that rows name, and the row."""
        found = {}
        for row in self.rows():
            for text in (row.original_url, row.alt):
                found |= {key: row.id for key in OURS.findall(text or "")}
        return found

    def write(self, writes: list[tuple[str, int]], stale: list[str] | None = None) -> None:
        """Do these writes as the application would; `stale` are URLs that a page of it still shows."""
        for kind, seed in writes:
            type(self).done[f"application: {kind}"] += 1
            rows = self.rows()
            urls = stale if stale else [row.original_url for row in rows if row.original_url]
            row = rows[seed % len(rows)] if rows else None
            with self.engine.begin() as connection:
                if kind == "insert" or row is None:
                    file = f"{seed % CONTENTS}{'ab'[seed % 2]}"
                    self.add(connection, f"/uploads/items/{file}.jpg")
                elif kind == "copy" and urls:
                    self.add(connection, urls[seed % len(urls)])
                elif kind == "move" and row.original_url:
                    self.add(connection, row.original_url)
                    self.set(connection, row.id, "original_url", None)
                elif kind == "mention" and urls:
                    self.set(connection, row.id, "alt", f"see {urls[seed % len(urls)]} there")
                elif kind == "empty":
                    self.set(connection, row.id, "original_url", None)
                elif kind == "remove":
                    connection.exec_driver_sql("DELETE FROM item_photos WHERE id = ?", (row.id,))

    def add(self, connection: Any, url: str) -> None:
        self.numbers += 1
        connection.execute(self.site.application.insert(), [item_photo(self.numbers, url)])

    def set(self, connection: Any, key: str, column: str, value: str | None) -> None:
        connection.exec_driver_sql(f"UPDATE item_photos SET {column} = ? WHERE id = ?", (value, key))

    @rule(writes=WRITES)
    def application_writes(self, writes: list[tuple[str, int]]) -> None:
        self.write(writes)

    # --- the pipeline

    def migrate(self) -> None:
        self.site.inventory(self.project)
        for key in batches_to_migrate(self.project.database):
            with BatchLease(self.project.database, key, run=new_run_id()) as lease:
                upload(self.project, lease)
                rewrite_batch(
                    self.project.database, self.project.config, lease, self.project.store, self.project.cdn
                )
                settle_forward(self.project.database, lease)

    @rule()
    def pipeline_migrates(self) -> None:
        type(self).done["migrations"] += 1
        try:
            self.migrate()
        except GuardRefusedError:
            # It waits for a deletion, and for nothing else.
            if not unfinished_deletions(self.project.database):
                raise

    @rule(seed=st.integers(0, 10**6))
    def a_batch_goes_back(self, seed: int) -> None:
        type(self).done["rollbacks"] += 1
        batches = [row[0] for row in self.site.execute("SELECT key FROM pp_batch ORDER BY key")]
        roll_back_batch(self.project, batches[seed % len(batches)], run=new_run_id())

    @rule(
        seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=4),
        step=st.sampled_from(STEPS),
        count=st.integers(1, 3),
        writes=st.one_of(st.none(), WRITES),
        uploads=st.booleans(),
        dies=st.booleans(),
    )
    def photos_are_deleted(
        self,
        seeds: list[int],
        step: str,
        count: int,
        writes: list[tuple[str, int]] | None,
        uploads: bool,
        dies: bool,
    ) -> None:
        """Right before a step others write (URLs that they knew before, too), and maybe the process dies."""
        type(self).done["deletions"] += 1
        ids = [row[0] for row in self.site.execute("SELECT id FROM pp_photo WHERE source IS NOT NULL")]
        chosen = Selection(photos=tuple(sorted({ids[seed % len(ids)] for seed in seeds})))
        stale = [row.original_url for row in self.rows() if row.original_url]
        try:
            plan = plan_deletion(self.project.database, self.project.config, chosen)
        except ConfigurationError:
            return  # one of them is not shown any more
        left = count

        def act() -> None:
            nonlocal left
            left -= 1
            if left:
                return
            if writes and step != "end":
                before = self.named().keys()
                self.write(writes, stale)
                if step in AFTER_THE_LOOK:
                    self.late |= self.named().keys() - before
            if uploads and step in ("_claim", "_delete", "_note"):
                self.pipeline_migrates()
            if dies:
                type(self).done["deaths"] += 1
                raise Death

        if plan.rows:
            self.tokens.append(plan.token)
            self.confirm(plan.token, chosen, step, act)

    def confirm(
        self, token: str, selection: Selection | None, step: str = "", act: Callable[[], None] = lambda: None
    ) -> None:
        at = place_of(step) if step else None
        really = getattr(*at) if at else None

        def stepped(*args: Any, **options: Any) -> Any:
            act()
            assert really is not None
            return really(*args, **options)

        patches = [patch.object(*at, stepped)] if at else []
        for each in patches:
            each.start()
        try:
            confirm_deletion(
                self.project.database,
                self.project.config,
                self.project.store,
                token,
                selection,
                run=new_run_id(),
            )
        except (Death, GuardRefusedError):
            pass
        finally:
            for each in patches:
                each.stop()

    @rule()
    def what_was_interrupted_goes_on(self) -> None:
        for token in unfinished_deletions(self.project.database):
            type(self).done["resumed"] += 1
            self.confirm(token, None)

    @rule(seed=st.integers(0, 10**6))
    def a_deletion_is_taken_back(self, seed: int) -> None:
        if not self.tokens:
            return
        type(self).done["undone"] += 1
        token = self.tokens[seed % len(self.tokens)]
        try:
            undo_deletion(
                self.project.database, self.project.config, self.project.store, token, run=new_run_id()
            )
        except (GuardRefusedError, ConfigurationError, StoreError):
            return

    # --- what must hold

    @invariant()
    def every_object_that_a_row_names_is_there(self) -> None:
        dangling = {key: row for key, row in self.named().items() if key not in self.store.objects}
        if unfinished_deletions(self.project.database):
            # A row that began to name it while it was deleted gets it back when the deletion goes on.
            dangling = {key: row for key, row in dangling.items() if key not in self.late}
        else:
            self.late.clear()
        assert dangling == {}


DEFAULT = settings(
    max_examples=4,
    stateful_step_count=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases belong to processes that are dead by the time another asks; the store deletes in memory."""
    monkeypatch.setattr(lease_module, "is_dead", lambda _owner: True)
    for module in (deletion_objects, deletion_undo):
        monkeypatch.setattr(module, "undelete", lambda store, deleted: store.undelete(deleted))
    monkeypatch.setattr(
        deletion_objects, "delete_object", lambda store, expected: store.delete_object(expected)
    )
    monkeypatch.setattr(deletion_objects, "keeps_versions", lambda _store: True)
    monkeypatch.setattr(deletion_objects, "list_versions", lambda _store, _key: iter(list[ObjectVersion]()))
    monkeypatch.setenv("APP_DATABASE_URL", "sqlite:///unset")


def check(chosen: settings) -> int:
    Shop.done = Counter()
    run_state_machine_as_test(Shop, settings=chosen)
    print(f"\n{Shop.done.total()} operations: {dict(Shop.done.most_common())}")
    return Shop.done.total()


def test_nothing_that_a_row_names_is_deleted() -> None:
    assert check(DEFAULT) > 50


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_nothing_that_a_row_names_is_deleted_in_ten_thousand_operations() -> None:
    done = 0
    while done < 10_000:
        done += check(settings(DEFAULT, max_examples=30, stateful_step_count=40, derandomize=False))
    print(f"{done} operations in all")


def _no_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalog's other photos are not asked."""
    monkeypatch.setattr(deletion_objects, "other_owners", lambda *_args, **_options: {})
    monkeypatch.setattr(deletion_plan, "other_owners", lambda *_args, **_options: {})
    _no_look_at_rows(monkeypatch)


def _no_look_at_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's rows are not looked through."""
    monkeypatch.setattr(deletion_objects, "mentioned_contents", lambda *_args, **_options: {})
    monkeypatch.setattr(deletion_plan, "mentioned_contents", lambda *_args, **_options: {})


def _no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a row begins to name during the delete is not brought back."""
    monkeypatch.setattr(deletion_objects.ObjectDeletion, "_bring_back_what_is_named", lambda *_: None)


def plays(step: str, writes: list[tuple[str, int]] | None) -> None:
    """Delete one photo after the other, with these writes right before a step of each deletion."""
    shop = Shop()
    try:
        for seed in range(3):
            shop.photos_are_deleted(
                seeds=[seed], step=step, count=1, writes=writes, uploads=False, dies=False
            )
            shop.every_object_that_a_row_names_is_there()
    finally:
        shop.teardown()


@pytest.mark.parametrize(
    ("remove", "step", "writes"),
    [
        (_no_owners, "change_rows", None),
        (_no_look_at_rows, "_claim", [("copy", 0)]),
        (_no_second_look, "_note", [("copy", 0)]),
    ],
)
def test_without_its_defence_the_model_disagrees(
    monkeypatch: pytest.MonkeyPatch, remove: Any, step: str, writes: list[tuple[str, int]] | None
) -> None:
    plays(step, writes)
    remove(monkeypatch)
    with pytest.raises(AssertionError, match=r"full\.jpg"):
        plays(step, writes)
