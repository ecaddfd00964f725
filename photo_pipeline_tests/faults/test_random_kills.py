"""Whole migrations and rollbacks, killed by SIGKILL again and again at random moments, and carried on.

A moment is drawn evenly from the time that the operation takes when nobody disturbs it, so that it may hit
anything: also what `test_kill_matrix` has no name for. Every fourth site is driven by the commands, with
their worker processes; the others by the core in one process, which is killed deeper in its work per second.
"""

import random
import shutil
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from photo_pipeline_tests.faults.aftermath import (
    OBJECTS_OF_A_PHOTO,
    assert_migrated_as_if_nothing_happened,
    assert_rolled_back_as_if_nothing_happened,
    requests,
)
from photo_pipeline_tests.faults.scene import MakeScene, Scene

PHOTOS, BATCH_SIZE = 6, 2
SEED = 20_261_127
CORE = ("migrate", "roll_back")
COMMANDS = ("command_migrate", "command_rollback")
CHECKS_OF_A_SITE = 2  # the whole aftermath, once migrated and once rolled back


@dataclass
class Tally:
    """What was done so far."""

    kills: Counter[str] = field(default_factory=Counter)
    sites: int = 0
    resumed: int = 0
    looks: int = 0
    puts: int = 0
    repeated: int = 0

    def __str__(self) -> str:
        by_operation = ", ".join(f"{count} in {name}" for name, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({by_operation}) on {self.sites} sites, "
            f"{self.resumed} resumed runs, {self.looks} looks right after a kill, "
            f"{self.sites * CHECKS_OF_A_SITE} whole aftermaths, "
            f"{self.puts} PUTs, {self.repeated} of them repeated"
        )


def seconds_of(scene: Scene, operation: str) -> float:
    started = time.monotonic()
    assert scene.run(operation).code == 0, scene.tail()
    return time.monotonic() - started


def calibrated(make_scene: MakeScene, database: str) -> dict[str, float]:
    """How long each operation takes, in seconds; the first of all warms up."""
    seconds: dict[str, float] = {}
    for operations in (CORE, CORE, COMMANDS):
        scene = make_scene(database=database, photos=PHOTOS, batch_size=BATCH_SIZE)
        seconds |= {operation: seconds_of(scene, operation) for operation in operations}
    return seconds


def killed_until_done(
    scene: Scene, operation: str, moments: random.Random, longest_s: float, tally: Tally
) -> None:
    """Do the operation, killed at random moments, until a run of it comes through."""
    while scene.run(operation, strike_after_s=moments.uniform(0, longest_s)).died:
        tally.kills[operation] += 1
        tally.resumed += 1
        scene.look()
        tally.looks += 1
    assert "Traceback" not in scene.tail(), scene.tail()


def live_through(
    scene: Scene, moments: random.Random, operations: tuple[str, str], seconds: dict[str, float], tally: Tally
) -> None:
    """Migrate and roll back one site under fire, and check everything after both."""
    for operation in operations:
        killed_until_done(scene, operation, moments, seconds[operation], tally)
        kills = tally.kills.total()
        if operation == operations[0]:
            assert_migrated_as_if_nothing_happened(scene.site, scene.access_log, photos=PHOTOS, kills=kills)
        else:
            assert_rolled_back_as_if_nothing_happened(
                scene.site, scene.access_log, scene.before, photos=PHOTOS, kills=kills
            )
    puts = len(requests(scene.site, scene.access_log, "PUT"))
    tally.puts += puts
    tally.repeated += puts - PHOTOS * OBJECTS_OF_A_PHOTO
    tally.sites += 1


def under_fire(make_scene: MakeScene, database: str, *, kills: int, seed: int) -> Tally:
    moments, tally = random.Random(seed), Tally()
    seconds = calibrated(make_scene, database)
    while tally.kills.total() < kills:
        operations = COMMANDS if tally.sites % 4 == 3 else CORE
        scene = make_scene(database=database, photos=PHOTOS, batch_size=BATCH_SIZE)
        live_through(scene, moments, operations, seconds, tally)
        shutil.rmtree(scene.site.home)
    print(f"\n{database}, seed {seed}: {tally}")
    return tally


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("database", "kills"), [("sqlite", 200), ("postgres", 60)])
def test_hundreds_of_kills_at_random_moments_lose_and_damage_nothing(
    make_scene: MakeScene, database: str, kills: int
) -> None:
    assert under_fire(make_scene, database, kills=kills, seed=SEED).kills.total() >= kills
