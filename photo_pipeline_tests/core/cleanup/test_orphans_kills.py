"""`kill -9` between every two durable steps of mark, delete and undo; then the next run finishes the work."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from photo_pipeline.core.audit import verify
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.cleanup.scene import Scene, opened
from photo_pipeline_tests.core.migration.quick import migrated
from photo_pipeline_tests.faults.processes import Runner

DAY = 25
# More steps than any of the operations takes: whoever needs more does not end.
MOST_STEPS = 60


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    running = Runner(
        "photo_pipeline_tests.core.cleanup.killed_clean_up", tmp_path_factory.mktemp("kills") / "log"
    )
    yield running
    running.stop()


def prepare(scene: Scene, step: str, seed: int) -> set[str]:
    """Bring two orphans to where that step comes next; return their keys."""
    keys = {scene.put(scene.key_of_nobody((step, seed, each))) for each in range(2)}
    scene.bucket.ahead *= 0
    if step != "mark":
        scene.later(hours=DAY)
        scene.mark()
    if step == "undo":
        scene.later(hours=DAY)
        assert scene.delete().deleted == 2
    return keys


def finish(scene: Scene, step: str, keys: set[str], needed: set[str]) -> None:
    """What must hold right after the death, and after the next run."""
    assert needed <= scene.stored(), "right after the death"
    scene.bucket.ahead *= 0
    scene.later(hours=2 * DAY)
    if step == "mark":
        scene.mark()
        assert {key for (key,) in scene.site.execute(MARKED)} == keys
        scene.later(hours=DAY)
        scene.delete()
    elif step == "delete":
        # What was still there has to be marked anew.
        for _ in range(2):
            scene.delete()
            scene.mark()
            scene.later(hours=DAY)
        scene.delete()
    else:
        scene.undo()
        assert keys <= scene.stored()
        scene.mark()
        scene.later(hours=DAY)
        scene.delete()
    assert scene.stored() == needed
    assert scene.site.execute("SELECT COUNT(*) FROM pp_orphan WHERE state = 'deleting'") == [(0,)]
    assert scene.undo().restored >= 2, "whatever was deleted, by whoever died, can be brought back"
    assert keys <= scene.stored()
    for key in keys:
        scene.project.store.delete(key)
    scene.site.execute("DELETE FROM pp_orphan")


MARKED = "SELECT key FROM pp_orphan WHERE state = 'marked'"


EVERY = range(1, MOST_STEPS)
ALL = [pytest.param(step, EVERY, marks=pytest.mark.slow) for step in ("mark", "delete", "undo")]


# By default where it matters most: all decided and nothing deleted, and all deleted but nothing written down.
@pytest.mark.parametrize(("step", "moments"), [("delete", (4, 6)), *ALL], ids=str)
def test_killed_at_any_step_the_next_run_finishes(
    make_site: MakeSite, runner: Runner, tmp_path: Path, step: str, moments: Sequence[int]
) -> None:
    site = make_site(photos=1, upload={"concurrency": 1})
    migrated(site)
    report = tmp_path / "steps.json"
    environment = os.environ | {"APP_DATABASE_URL": site.url}
    deaths = 0
    with opened(site) as scene:
        needed = scene.stored()
        for n in moments:
            keys = prepare(scene, step, n)
            request = {"step": step, "n": n, "hours": 2 * DAY, "report": str(report)}
            ended = runner.run(request, environment=environment, log=tmp_path / "run.log")
            finish(scene, step, keys, needed)
            if not ended.died:
                assert ended.code == 0, (tmp_path / "run.log").read_text(encoding="utf-8")
                break
            deaths += 1
        with scene.project.database.read() as connection:
            assert verify(connection).holds
    if moments is not EVERY:
        assert deaths == len(moments)
        return
    taken = json.loads(report.read_text(encoding="utf-8"))
    print(f"\n{step}: died before each of {deaths} steps ({', '.join(taken)})")
    assert deaths == len(taken)
    assert "DELETE" in taken or step == "mark"
