"""Every planted fault is found and nothing else, over random buckets and databases.

On SQLite, with a store in memory; the same scan on real servers is in the other tests of this folder.
"""

import os
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from photo_pipeline.core.cleanup import orphans_references
from photo_pipeline.core.cleanup.drift import look_for_drift
from photo_pipeline.core.cleanup.orphans_bucket import LiveListing
from photo_pipeline.core.cleanup.orphans_compare import FOREIGN
from photo_pipeline.core.cleanup.orphans_scan import scan
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline_tests.core.cleanup.plants import DRIFT, HARMLESS, ORPHANS
from photo_pipeline_tests.core.cleanup.pretend_bucket import PretendBucket, VersionedStore
from photo_pipeline_tests.core.cleanup.worlds import Template, World

MEMORY = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None
QUICK = settings(
    max_examples=14,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
KINDS = (
    *("unknown content", "unknown recipe", "unknown file", "unknown original", "original of another format"),
    *("deleted row", "replaced value", "missing", "wrong_size", "wrong_checksum", "dangling_cell"),
)
PLANTS = st.lists(st.sampled_from([*HARMLESS, *HARMLESS, *ORPHANS, *DRIFT]), min_size=25, max_size=45)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    home = tmp_path_factory.mktemp("worlds")
    os.environ["APP_DATABASE_URL"] = f"sqlite:///{home / 'app.db'}"
    yield Template(home)
    del os.environ["APP_DATABASE_URL"]


@contextmanager
def new_world(template: Template, seed: int) -> Iterator[World]:
    site = template.copy()
    os.environ["APP_DATABASE_URL"] = site.url
    with site.project() as project:
        bucket = PretendBucket(VersionedStore(project.config.store))
        yield World(site, project, bucket, random.Random(seed))


def check(template: Template, chosen: settings) -> Counter[str]:
    """Run the examples; return how much was planted and looked at."""
    totals: Counter[str] = Counter()

    @chosen
    @given(seed=st.integers(0, 2**32), plants=PLANTS)
    def every_fault_is_found(seed: int, plants: list) -> None:  # type: ignore[type-arg]
        with new_world(template, seed) as world:
            world.migrated()  # an empty database is refused
            for plant in plants:
                plant(world)
            world.write()
            with Workspace() as workspace:
                parts = (world.project.database, world.config, world.bucket)
                found = scan(workspace, *parts, LiveListing(world.bucket))
                drift = look_for_drift(workspace, *parts)
            orphans = {each.key for each in found.orphans if each.reason != FOREIGN}
            assert orphans == set(world.planted), _difference(orphans, world)
            assert {each.key for each in found.orphans if each.reason == FOREIGN} == world.foreign
            assert {(each.kind, each.key) for each in drift.findings} == world.drifted
            census = found.census
            classes = census.referenced + census.fresh + census.orphans + census.foreign
            assert census.listed == classes
            totals.update(
                worlds=1,
                objects=census.listed,
                orphans=len(orphans),
                foreign=len(world.foreign),
                drift=len(world.drifted),
            )
            totals.update(world.planted.values())
            totals.update(kind for kind, _ in world.drifted)

    every_fault_is_found()
    return totals


def _difference(orphans: set[str], world: World) -> str:
    missed = {world.planted[key] for key in set(world.planted) - orphans}
    return f"missed: {missed}; too many: {sorted(orphans - set(world.planted))}"


def test_every_planted_fault_is_found_and_nothing_else(template: Template) -> None:
    totals = check(template, QUICK)
    print(f"\n100 % found, 0 false positives: {dict(totals)}")
    assert min(totals[kind] for kind in KINDS) >= 1


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_planted_fault_is_found_in_a_thousand_worlds(template: Template) -> None:
    totals = check(template, settings(QUICK, max_examples=1_000, derandomize=False))
    print(f"\n100 % found, 0 false positives: {dict(totals)}")


def _only_mapped_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans_references.References, "_is_left_out", lambda *_args: True)


def _no_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans_references.References, "_read_photos", lambda *_args: None)


def _no_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans_references.References, "_read_ledger", lambda *_args: None)


@pytest.mark.parametrize("remove", [_only_mapped_tables, _no_photos, _no_ledger])
def test_without_one_kind_of_reference_the_worlds_show_it(
    template: Template, monkeypatch: pytest.MonkeyPatch, remove: object
) -> None:
    remove(monkeypatch)  # type: ignore[operator]
    with pytest.raises((AssertionError, ExceptionGroup)):
        check(template, settings(QUICK, phases=[Phase.generate], report_multiple_bugs=False))
