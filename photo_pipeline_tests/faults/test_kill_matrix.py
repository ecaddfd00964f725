"""`kill -9`, or a power cut, between every two durable steps of every operation; then an ordinary run.

A durable step is a COMMIT, a PUT or DELETE of the store, an fsync, a rename or an unlink. `steps` finds and
counts them in a real process, so a new one is in the matrix by itself. `make test` dies at one step of each
operation; the slow tests at every one, on SQLite and PostgreSQL.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from photo_pipeline.core.errors import PhotoPipelineError
from photo_pipeline_tests.core.migration.test_restore import lose_the_state_tables
from photo_pipeline_tests.faults.aftermath import (
    OBJECTS_OF_A_PHOTO,
    assert_log_is_unbroken,
    assert_migrated_as_if_nothing_happened,
    assert_no_row_is_half_written,
    assert_objects_stored_once,
    assert_rolled_back_as_if_nothing_happened,
)
from photo_pipeline_tests.faults.scene import MakeScene, Scene

# --- the operations: how the site gets there, and what must hold after it


def nothing(_scene: Scene) -> None: ...


def migrated(scene: Scene) -> None:
    scene.do("migrate")


def migrated_and_a_file_lost(scene: Scene) -> None:
    scene.do("migrate")
    (scene.site.uploads / "items/0.jpg").unlink()


def migrated_and_moved(scene: Scene) -> None:
    scene.do("migrate")
    scene.site.configure(store=scene.site.settings["store"] | {"prefix": f"{scene.site.name}/moved"})


def migrated_and_state_lost(scene: Scene) -> None:
    scene.do("migrate")
    lose_the_state_tables(scene.site)


def is_migrated(scene: Scene) -> None:
    assert_migrated_as_if_nothing_happened(scene.site, scene.access_log, photos=scene.photos)


def goes_back(scene: Scene) -> None:
    scene.do("roll_back")
    is_rolled_back(scene)


def is_migrated_later(scene: Scene) -> None:
    scene.do("migrate")
    is_migrated(scene)


def is_rolled_back(scene: Scene) -> None:
    assert_rolled_back_as_if_nothing_happened(scene.site, scene.access_log, scene.before, photos=scene.photos)
    assert sorted(path.name for path in (scene.site.uploads / "items").iterdir()) == [
        f"{number}.jpg" for number in range(scene.photos)
    ]


def is_repointed(scene: Scene) -> None:
    assert_no_row_is_half_written(scene.site)
    urls = [row.original_url for row in scene.site.execute("SELECT original_url FROM item_photos")]
    assert all(f"/{scene.site.name}/moved/" in url for url in urls)
    entries = scene.site.execute('SELECT row_key, "column" FROM pp_rewrite WHERE "column" = \'original_url\'')
    assert set(Counter(entries).values()) == {2}
    assert scene.site.states() == {"migrated": scene.photos}


def goes_back_from_both(scene: Scene) -> None:
    old = scene.site.settings["store"] | {"prefix": f"{scene.site.name}"}
    scene.do("roll_back")
    scene.site.configure(store=old)  # below it lie the objects of both prefixes
    with scene.site.project() as project:
        # The originals did not move.
        objects = scene.photos * (2 * OBJECTS_OF_A_PHOTO - 1)
        assert_objects_stored_once(scene.site, scene.access_log, project, objects=objects)
    assert_log_is_unbroken(scene.site)
    assert scene.site.dump() == scene.before


def is_as_before(scene: Scene) -> None:
    assert scene.site.dump() == scene.before


def is_restored(scene: Scene) -> None:
    is_as_before(scene)
    assert scene.site.states() == {"rolled_back": scene.photos}
    assert [row.state for row in scene.site.execute("SELECT state FROM pp_batch")] == ["rolled_back"]
    assert [row.status for row in scene.site.execute("SELECT status FROM pp_migration")] == ["rolled_back"]
    assert_log_is_unbroken(scene.site)


@dataclass(frozen=True)
class Case:
    """An operation with how a site gets there, what must hold after it, and then after a rollback."""

    operation: str
    prepare: Callable[[Scene], None]
    check: Callable[[Scene], None]
    then: Callable[[Scene], None] = nothing


CASES = {
    "inventory": Case("inventory", nothing, is_migrated_later, goes_back),
    "migrate": Case("migrate", nothing, is_migrated, goes_back),
    "rollback": Case("roll_back", migrated, is_rolled_back),
    "rollback of lost files": Case("roll_back", migrated_and_a_file_lost, is_rolled_back),
    "repoint": Case("repoint", migrated_and_moved, is_repointed, goes_back_from_both),
    "restore": Case("restore_from_files", migrated, is_restored),
    "restore from the bucket alone": Case("restore_from_bucket", migrated_and_state_lost, is_as_before),
    "pause and resume": Case("pause_and_resume", migrated, is_migrated),
    "abort": Case("abort_roll_back_and_resume", migrated, is_rolled_back),
}


def survives(
    make_scene: MakeScene,
    name: str,
    *,
    database: str = "sqlite",
    without: str = "",
    and_back: bool = True,
    **death: Any,
) -> bool:
    """Let the operation die as said and carry on; return whether it died (or was through before).

    With `and_back`, also undo by a rollback what the one that carried on has done.
    """
    case = CASES[name]
    scene = make_scene(database=database)
    case.prepare(scene)
    ended = scene.run(case.operation, without=without, **death)
    assert ended.died or ended.code == 0, f"exit code {ended.code}, log:\n{scene.tail()}"
    if ended.died:
        scene.look()
        if without:
            assert scene.run(case.operation, without=without).code == 0, scene.tail()
        else:
            scene.do(case.operation)
        scene.look()
        case.check(scene)
        if and_back:
            case.then(scene)
    shutil.rmtree(scene.site.home)
    return ended.died


CUT = {"power_cut": True}
AFTER = {"after": True}
SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("name", "kind", "n", "how"),
    [
        ("inventory", "commit pp_photo", 1, AFTER),
        pytest.param("migrate", "rename", 3, CUT, marks=SLOW),
        ("migrate", "PUT", 10, {}),
        ("migrate", "commit pp_backup", 1, CUT),
        pytest.param("migrate", "commit pp_rewrite", 1, AFTER, marks=SLOW),
        ("rollback", "commit pp_rewrite", 1, AFTER),
        pytest.param("rollback of lost files", "rename", 1, CUT, marks=SLOW),
        pytest.param("repoint", "PUT", 3, {}, marks=SLOW),
        ("repoint", "commit pp_rewrite", 1, AFTER),
        ("restore", "commit item_photos", 1, AFTER),
    ],
)
def test_after_death_at_a_step_the_next_run_completes_as_if_nothing_had_happened(
    make_scene: MakeScene, name: str, kind: str, n: int, how: dict[str, bool]
) -> None:
    assert survives(make_scene, name, kind=kind, n=n, **how)


@pytest.mark.parametrize(
    ("without", "name", "kind", "n", "how"),
    [
        ("one transaction", "migrate", "commit item_photos", 1, AFTER),
        pytest.param("one transaction", "rollback", "commit item_photos", 1, AFTER, marks=SLOW),
        pytest.param("one transaction", "repoint", "commit item_photos", 1, AFTER, marks=SLOW),
        pytest.param("conditional PUT", "migrate", "PUT", 11, {}, marks=SLOW),
        ("fsync of files", "migrate", "commit pp_backup", 1, CUT),
        pytest.param("fsync of folders", "migrate", "commit pp_backup", 1, CUT | AFTER, marks=SLOW),
        pytest.param("rename", "migrate", "fsync .parquet", 2, CUT, marks=SLOW),
        pytest.param("rename", "rollback of lost files", "fsync .jpg", 1, CUT, marks=SLOW),
    ],
)
def test_without_its_defence_the_same_death_is_found_out(
    make_scene: MakeScene, without: str, name: str, kind: str, n: int, how: dict[str, bool]
) -> None:
    with pytest.raises((AssertionError, PhotoPipelineError)) as caught:
        survives(make_scene, name, kind=kind, n=n, without=without, **how)
    assert "exit code" not in str(caught.value), "it did not even come to the death"
    print(f"\n{without}: {str(caught.value)[:200]}")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("name", "database", "how"),
    [
        *((name, "sqlite", {}) for name in CASES),
        *((name, "sqlite", CUT) for name in ("migrate", "rollback of lost files", "repoint")),
        *((name, "postgres", {"kind": "commit"}) for name in CASES),
    ],
)
def test_after_death_at_any_step_the_next_run_completes_as_if_nothing_had_happened(
    make_scene: MakeScene, name: str, database: str, how: dict[str, Any]
) -> None:
    """A power cut where files are written; on PostgreSQL at each commit, since the rest is the same there."""
    steps = 0
    # The way back costs as much as the rest; what it needs is complete, or the check before it fails.
    while survives(make_scene, name, database=database, n=steps + 1, and_back=steps % 4 == 0, **how):
        steps += 1
    print(f"\n{name}, {database} {how}: died at {steps} steps")
    assert steps > 1
