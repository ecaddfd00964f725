"""The clean-up of the bucket against the model: nothing that anything refers to is ever deleted.

All that `test_model` does in any order (edits, migrations, rollbacks, repoints, deaths, pauses), and with it:
rows that go, texts in other tables that copy our URLs, objects that nobody knows, days that pass, marks,
deletes and undos, other writers between any two requests of these, and clean-ups that die. After each of
them every row, and every copied URL, must still have its object.
"""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import orphan_table
from photo_pipeline.core.cleanup import orphans_delete, orphans_references
from photo_pipeline.core.cleanup.orphans_bucket import LiveListing
from photo_pipeline.core.cleanup.orphans_delete import DeletedOrphans, delete_orphans
from photo_pipeline.core.cleanup.orphans_keys import key_facts
from photo_pipeline.core.cleanup.orphans_marks import mark
from photo_pipeline.core.cleanup.orphans_undo import undo
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.errors import GuardRefusedError, PausedError
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.project import Project
from photo_pipeline_tests.core.cleanup.pretend_bucket import PretendBucket, VersionedStore
from photo_pipeline_tests.faults.test_model import (
    CELL,
    DEFAULT,
    EDITS,
    NAMES,
    WORK,
    Application,
    Death,
    Fuse,
    armed,
    check,
    dead_owners,
)
from photo_pipeline_tests.postgres import PostgresServer

__all__ = ["dead_owners"]  # an autouse fixture

SPELLINGS: tuple[Callable[[str], str], ...] = (
    lambda url: url,
    lambda url: json.dumps({"url": url}).replace("/", "\\/"),
    lambda url: f"https://resize.example/?url={quote(url, safe='')}",
    lambda url: url.replace("/", "&#x2F;"),
)
COPIES = st.lists(
    st.tuples(st.sampled_from(["copy", "copy", "paste", "paste", "tear"]), st.integers(0, 10**6)),
    max_size=12,
)
HOURS = st.integers(1, 60)
REQUEST = st.integers(0, 60)
STEP = st.sampled_from(["mark", "delete", "delete", "undo"])


class WithCleanUp(Application):
    """The application, and a clean-up of its bucket."""

    effects: ClassVar[Counter[str]] = Counter()
    """Objects deleted, and brought back, over all examples."""

    def __init__(self) -> None:
        self.seen: list[str] = []  # URLs that somebody has seen, and may paste at any time
        self.notes: dict[int, str] = {}
        self.unknown: set[str] = set()
        super().__init__()
        self.site.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, body TEXT)")
        self._work("forward")  # before anything is migrated every clean-up is refused

    def _opened(self) -> Project:
        if self.store is None:
            project = Project.load(self.site.config_path)
            ensure_schema(project.database)
            self.store = VersionedStore(project.config.store)
            project.database.close()
        project = super()._opened()
        self.versions.settings = project.config.store  # a repoint may have moved the prefix
        return project

    @property
    def versions(self) -> VersionedStore:
        assert isinstance(self.store, VersionedStore)
        return self.store

    # --- the application's side

    def _copy(self, kind: str, seed: int) -> None:
        self._count("copies")
        shown = [
            name
            for key, row in sorted(self._stored().items(), key=str)
            for name in NAMES.findall(row[CELL[key[0]]])
            if self._is_ours(name)
        ]
        self.seen = list(dict.fromkeys([*self.seen, *shown]))[-40:]
        if kind == "tear" and self.notes:
            number = sorted(self.notes)[seed % len(self.notes)]
            del self.notes[number]
            self.site.execute("DELETE FROM notes WHERE id = :id", id=number)
            return
        urls = {"copy": shown, "paste": self.seen}.get(kind, [])
        if not urls:
            return
        url = urls[seed % len(urls)]
        if self._key(url) not in self.store_.objects:
            return  # it shows nothing any more: pasting it makes no photo of it
        self.numbers += 1
        self.notes[self.numbers] = url
        body = SPELLINGS[seed % len(SPELLINGS)](url)
        self.site.execute("INSERT INTO notes VALUES (:id, :body)", id=self.numbers, body=body)

    def _key(self, url: str) -> str:
        return url.partition("://")[2].partition("/")[2]

    @rule(copies=COPIES)
    def urls_are_copied(self, copies: list[tuple[str, int]]) -> None:
        for each in copies:
            self._copy(*each)

    @rule(seed=st.integers(0, 10**6))
    def many_rows_go(self, seed: int) -> None:
        self._apply([("delete", seed + step) for step in range(4)] + [("retract", seed)])

    @rule(seed=st.integers(0, 10**6), strange=st.booleans())
    def somebody_leaves_an_object(self, seed: int, strange: bool) -> None:
        self._count("objects")
        prefix = self.project.config.store.prefix
        sha = f"{seed:064x}"
        name = f"left-{seed}.jpg" if strange else f"{sha[:2]}/{sha}/0123456789ab/full.jpg"
        self.versions.overwrite(f"{prefix}/{name}", b"left")
        self.unknown.add(f"{prefix}/{name}")

    @rule(hours=HOURS)
    def time_passes(self, hours: int) -> None:
        self._count("days")
        self.versions.clock += timedelta(hours=hours)

    # --- the clean-up

    def _clean(self, step: str, on_call: Callable[[str], object] = lambda _what: None) -> Any:
        self._count(step)
        bucket = PretendBucket(self.versions, on_call)
        parts = (self.project.database, self.project.config, bucket)
        if step == "undo":
            return undo(self.project.database, bucket, run=new_run_id(), apply=True)
        work = mark if step == "mark" else delete_orphans
        with Workspace() as workspace:
            options: dict[str, Any] = {"apply": True, "max_share": 1.0, "with_foreign": True}
            done = work(workspace, *parts, LiveListing(bucket), run=new_run_id(), **options)[1]
        if isinstance(done, DeletedOrphans):
            type(self).effects["deleted"] += done.deleted
            type(self).effects["brought back"] += done.brought_back
        return done

    def _try_to_clean(self, step: str, on_call: Callable[[str], object] = lambda _what: None) -> Any:
        """Clean, unless the guards refuse: an application without rows, a catalog without objects."""
        try:
            return self._clean(step, on_call)
        except GuardRefusedError as refused:
            self._count("refused")
            error = refused
        assert "would look like" in error.cause
        return None

    @rule(step=STEP)
    def clean_up(self, step: str) -> None:
        done = self._try_to_clean(step)
        if isinstance(done, DeletedOrphans):
            assert done.lost == []

    @rule(seed=st.integers(0, 10**6), copies=COPIES)
    def rows_go_and_are_cleaned_up(self, seed: int, copies: list[tuple[str, int]]) -> None:
        self.urls_are_copied(copies)
        self.many_rows_go(seed)
        self.clean_up_to_the_end()

    @rule(seed=st.integers(0, 10**6), left=st.integers(0, 12))
    def somebody_pastes_during_a_delete(self, seed: int, left: int) -> None:
        """What rows showed that are gone by now, and that is about to be deleted."""
        self.urls_are_copied([("see", 0)])
        self.many_rows_go(seed)
        self.versions.clock += timedelta(hours=25)
        if self._try_to_clean("mark") is None:
            return
        self.versions.clock += timedelta(hours=25)
        calls = Counter[str]()

        def paste(what: str) -> None:
            calls[what] += 1
            if what == "delete" and calls[what] == left + 1:
                for step in range(8):
                    self._copy("paste", seed + step)

        self._try_to_clean("delete", paste)

    @rule()
    def clean_up_to_the_end(self) -> None:
        """Whatever nobody knows is gone after two graces."""
        for step in ("mark", "delete"):
            self.versions.clock += timedelta(hours=25)
            if self._try_to_clean(step) is None:
                return
        prefix = f"{self.project.config.store.prefix}/"
        left = {key for key in self.unknown & set(self.store_.objects) if key.startswith(prefix)}
        assert left == set()

    @rule(step=STEP, left=REQUEST, edits=EDITS, copies=COPIES)
    def others_write_during_a_clean_up(
        self, step: str, left: int, edits: list[tuple[str, int]], copies: list[tuple[str, int]]
    ) -> None:
        """Between any two of its requests to the store."""
        calls = Counter[str]()

        def work(_what: str) -> None:
            calls["all"] += 1
            if calls["all"] == left + 1:
                self._apply(edits[:10])
                for each in copies:
                    self._copy(*each)

        done = self._try_to_clean(step, work)
        if isinstance(done, DeletedOrphans):
            assert done.lost == []

    @rule(left=REQUEST, what=WORK)
    def a_migration_begins_during_a_clean_up(self, left: int, what: str) -> None:
        calls = Counter[str]()
        outcome: list[str] = []

        def begin(_what: str) -> None:
            calls["all"] += 1
            if calls["all"] == left + 1:
                try:
                    self._go_on()
                    self._work(what)
                    outcome.append("ran")
                except GuardRefusedError:
                    outcome.append("refused")
                except PausedError:
                    assert self.is_stopped

        self._try_to_clean("delete", begin)
        if outcome:
            self._count(f"migration beside it {outcome[0]}")

    @rule(what=WORK, left=st.integers(0, 40), step=st.sampled_from(["mark", "delete"]))
    def a_clean_up_begins_during_a_migration(self, what: str, left: int, step: str) -> None:
        self._go_on()
        alive = pytest.MonkeyPatch()

        def begin() -> None:
            # The run beside it lives.
            alive.setattr("photo_pipeline.core.cleanup.orphans_lease.is_dead", lambda _owner: False)
            with suppress(GuardRefusedError):
                self._clean(step)
            alive.undo()

        with armed(Fuse(left, "after commit", begin, lasts=False)):
            self._work(what)

    @rule(step=STEP, left=REQUEST, moment=st.sampled_from(["request", "before commit", "after commit"]))
    def a_clean_up_dies(self, step: str, left: int, moment: str) -> None:
        self._count("deaths")
        fuse = Fuse(left % 8 if moment != "request" else left, moment, _die, lasts=True)
        with armed(fuse):
            try:
                self._try_to_clean(step, lambda _what: fuse.pass_by("request"))
            except Death:
                self.project.database.close()
        # What it had deleted and not looked at once more may be shown by now: the next one sees to it.
        self._expire_the_lease()
        self.finish_clean_up()

    def finish_clean_up(self) -> None:
        self._try_to_clean("delete")

    def _expire_the_lease(self) -> None:
        self.site.execute("UPDATE pp_lease SET expires_at = '2020-01-01 00:00:00' WHERE owner IS NOT NULL")

    # --- what holds at any time

    @invariant()
    def every_copied_url_has_its_object(self) -> None:
        for url in self.notes.values():
            assert self._key(url) in self.store_.objects, url

    @invariant()
    def no_object_of_a_live_row_is_half_deleted(self) -> None:
        prefixes = self.project.config.store
        with self.project.database.read() as connection:
            rows = connection.execute(sa.select(orphan_table)).all()
        for row in rows:
            assert row.state != "deleting", row
            facts = key_facts(row.key, prefix=prefixes.prefix, originals_prefix=prefixes.originals_prefix)
            if row.state == "deleted" and facts.kind == "foreign":
                assert row.marker_id


def _die() -> None:
    raise Death


QUICK = settings(DEFAULT, max_examples=2, stateful_step_count=25)


def test_random_sequences_with_clean_ups_agree_with_the_model() -> None:
    assert check(WithCleanUp, QUICK) > 100
    print(f"objects: {dict(WithCleanUp.effects)}")
    assert WithCleanUp.effects["deleted"] > 10


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_ten_thousand_operations_with_clean_ups_agree_with_the_model(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, database: str
) -> None:
    """Another ten thousand in each run; what fails is printed with the code that repeats it."""
    if database == "postgres":
        server: PostgresServer = request.getfixturevalue("postgres")
        monkeypatch.setattr(WithCleanUp, "database_url", staticmethod(server.new_database))
    done = 0
    while done < 10_000:
        done += check(WithCleanUp, settings(DEFAULT, derandomize=False))
    print(f"{done} operations in all; objects: {dict(WithCleanUp.effects)}")


def _believe_the_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delete what was marked, whatever refers to it by now."""
    monkeypatch.setattr(orphans_delete, "is_referenced", lambda *_args: False)


def _look_in_mapped_tables_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans_references.References, "_is_left_out", lambda *_args: True)


def _look_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not look at the references again after the deletes."""
    monkeypatch.setattr(orphans_delete._Deletion, "_look_once_more", lambda *_args: None)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("remove", [_look_in_mapped_tables_only, _believe_the_marks, _look_only_once])
def test_without_its_defence_the_model_disagrees(monkeypatch: pytest.MonkeyPatch, remove: Any) -> None:
    remove(monkeypatch)
    chosen = settings(DEFAULT, max_examples=60, phases=[Phase.generate], report_multiple_bugs=False)
    with pytest.raises((AssertionError, ExceptionGroup, KeyError)):
        check(WithCleanUp, chosen)
