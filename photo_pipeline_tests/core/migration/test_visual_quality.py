"""A batch's sample: the same everywhere, measured once, and never the reason why a photo stays behind."""

from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from photo_pipeline.core.errors import InfrastructureError
from photo_pipeline.core.imaging import quality
from photo_pipeline.core.imaging.quality import QualityTask, QualityWorkers
from photo_pipeline.core.imaging.recipe import Recipe, VariantSpec
from photo_pipeline.core.migration.invariants import Invariant, every_score_is_above_the_floor
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import Processed, Workers, process_batch
from photo_pipeline.core.migration.visual_quality import choose_sample, largest_whole_variant
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.imaging.hostile_work import be_killed_while_measuring, hang_while_measuring
from photo_pipeline_tests.core.migration.quick import quick_workers
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import ITEM_PHOTOS, Site, item_photo, photo

BATCH = "batch-000001"
SMALL = {
    "default": {
        "full": {"fit": "inside", "width": 128, "height": 128},
        "thumb": {"fit": "cover", "width": 150, "height": 150},
    }
}


def processed(site: Site, *, workers: Workers | None = None, **options: Any) -> Processed:
    """Make the variants of the one batch, and measure."""
    with site.project() as project:
        site.inventory(project)
        with BatchLease(project.database, BATCH, run="r") as lease:
            return process_batch(
                project.database, project.config, lease, workers or project.workers, **options
            )


def checked(site: Site) -> Invariant:
    with site.project() as project:
        return every_score_is_above_the_floor(project.database, project.config, BATCH)


def kept(site: Site) -> list[Any]:
    return site.execute("SELECT * FROM pp_quality ORDER BY key")


def small_site(make_site: MakeSite, *, share: float = 0.02, **settings: Any) -> Site:
    return make_site(**{"variants": SMALL, "quality": {"sample": share}} | settings)


@DATABASES
def test_a_sample_of_the_batch_is_measured_in_every_format_and_once(
    make_site: MakeSite, database: str
) -> None:
    site = small_site(make_site, photos=3, database=database)
    first = processed(site).quality
    assert (first.photos, first.measured, first.reused, first.not_measured) == (1, 3, 0, {})
    rows = kept(site)
    assert sorted(Path(row.key).name for row in rows) == ["full.avif", "full.jpg", "full.webp"]
    assert {row.batch for row in rows} == {BATCH}
    assert {row.metric for row in rows} == {"ssimulacra2 0.3.0"}
    assert all(50 < row.score < 100 for row in rows)
    assert first.worst == min(row.score for row in rows)
    assert first.mean == pytest.approx(sum(row.score for row in rows) / 3)
    (batch,) = site.migrate()
    again = batch.processed.quality
    assert (again.measured, again.reused, again.worst, again.mean) == (0, 3, first.worst, first.mean)
    # Migrated, and staging is empty.
    later = processed(site).quality
    assert (later.measured, later.reused, later.not_measured) == (0, 3, {})
    assert kept(site) == rows


def test_a_larger_share_measures_the_rest_only(make_site: MakeSite) -> None:
    site = small_site(make_site, photos=3)
    processed(site)
    site.configure(quality={"sample": 1.0})
    found = processed(site).quality
    assert (found.photos, found.measured, found.reused) == (3, 6, 3)


def test_equal_photos_are_measured_once(make_site: MakeSite) -> None:
    rows = [item_photo(number, "/uploads/items/0.jpg") for number in range(3)]
    site = small_site(make_site, share=1.0, photos=1, rows=rows)
    found = processed(site).quality
    assert (found.photos, found.measured) == (1, 3)


def test_a_photo_in_two_batches_is_measured_by_the_first_and_counts_in_both(make_site: MakeSite) -> None:
    rows = [item_photo(number, "/uploads/items/0.jpg") for number in range(2)]
    site = small_site(make_site, share=1.0, photos=1, rows=rows, batch_size=1)
    first, second = (batch.processed.quality for batch in site.migrate())
    assert (first.measured, first.reused) == (3, 0)
    assert (second.measured, second.reused, second.worst) == (0, 3, first.worst)
    with site.project() as project:
        for batch in (BATCH, "batch-000002"):
            assert every_score_is_above_the_floor(project.database, project.config, batch).checked == 3


def test_without_a_sample_nothing_is_measured(make_site: MakeSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "ImageWorkers", None)
    site = small_site(make_site, share=0, photos=1)
    assert processed(site).quality.photos == 0
    assert kept(site) == []


def test_a_preset_of_cropped_variants_only_has_nothing_to_measure(make_site: MakeSite) -> None:
    field = ITEM_PHOTOS["fields"][0] | {"variant": "thumb"}
    source = ITEM_PHOTOS | {"fields": [field]}
    cropped = {"default": {"thumb": SMALL["default"]["thumb"]}}
    site = small_site(make_site, photos=1, sources=[source], variants=cropped)
    found = processed(site)
    assert (found.done, found.quality.photos, found.quality.measured) == (1, 0, 0)


def test_the_largest_variant_that_shows_the_whole_picture_is_the_one_to_measure() -> None:
    specs = [VariantSpec(f"inside{side}", "inside", side, side, None) for side in (300, 1200, 800)]
    cover = VariantSpec("hero", "cover", 4000, 4000, None)
    assert largest_whole_variant(Recipe(variants=(cover, *specs))) == "inside1200"
    assert largest_whole_variant(Recipe(variants=(cover,))) is None


@given(
    st.sets(st.text("0123456789abcdef", min_size=4, max_size=4), max_size=60),
    st.floats(0.0001, 1, allow_nan=False),
    st.randoms(),
)
def test_the_sample_is_that_share_of_the_contents_whatever_their_order(
    contents: set[str], share: float, random: Any
) -> None:
    listed = [*contents, *contents]
    chosen = choose_sample(BATCH, listed, share=share)
    assert len(chosen) == ceil(share * len(contents))
    assert bool(chosen) == bool(contents)
    assert set(chosen) <= contents
    random.shuffle(listed)
    assert choose_sample(BATCH, listed, share=share) == chosen
    larger = choose_sample(BATCH, listed, share=1.0)
    assert larger[: len(chosen)] == chosen


def test_each_batch_has_a_sample_of_its_own() -> None:
    contents = [f"{number:064x}" for number in range(1000)]
    samples = [choose_sample(f"batch-{number:06}", contents, share=0.01) for number in range(5)]
    assert len({content for sample in samples for content in sample}) > 40


# What cannot be measured


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        (be_killed_while_measuring, "its worker was ended by SIGKILL"),
        (hang_while_measuring, "it took longer than 1 s"),
    ],
)
def test_a_photo_that_kills_its_measurement_is_migrated_all_the_same(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, work: Callable[[QualityTask], None], reason: str
) -> None:
    site = small_site(make_site, share=1.0, photos=2)
    monkeypatch.setattr(quality, "measure_task", work)
    monkeypatch.setattr(quality, "TIMEOUT_S", 1)
    (batch,) = site.migrate()
    assert site.states() == {"migrated": 2}
    assert not batch.has_findings
    found = batch.processed.quality
    assert (found.measured, found.mean, found.worst) == (0, None, None)
    assert sorted(found.not_measured) == [
        f"items/{number}.jpg ({name})" for number in range(2) for name in ("avif", "jpeg", "webp")
    ]
    assert all(reason in each for each in found.not_measured.values())
    assert all(row.score is None and reason in row.reason for row in kept(site))


def test_a_measurement_without_memory_is_recorded_with_that_reason(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = small_site(make_site, photos=1)
    monkeypatch.setattr("photo_pipeline.core.imaging.quality.MEMORY_BYTES", 1024 * 1024)
    found = processed(site)
    assert (found.done, found.quality.measured, len(found.quality.not_measured)) == (1, 0, 3)


def test_what_could_not_be_measured_is_tried_again_on_request_only(make_site: MakeSite) -> None:
    site = small_site(make_site, photos=1)
    damaged = processed(site, workers=quick_workers).quality
    assert len(damaged.not_measured) == 3
    assert all("cannot be decoded" in reason for reason in damaged.not_measured.values())
    rows = kept(site)
    assert processed(site, workers=quick_workers).quality == damaged
    assert kept(site) == rows
    retried = processed(site, workers=quick_workers, retry_failed=True).quality
    assert retried == damaged
    assert all(row.measured_at > before.measured_at for row, before in zip(kept(site), rows, strict=True))


def test_a_pool_that_breaks_leaves_the_rest_unmeasured_and_the_batch_goes_on(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = QualityWorkers.measure

    def breaking(workers: QualityWorkers, tasks: list[QualityTask]) -> Iterator[Any]:
        yield next(iter(real(workers, tasks)))
        raise InfrastructureError("image workers", cause="the pool broke")

    site = small_site(make_site, share=1.0, photos=2)
    with monkeypatch.context() as patch:
        patch.setattr(QualityWorkers, "measure", breaking)
        found = processed(site)
    assert (found.done, found.quality.measured, len(found.quality.not_measured)) == (2, 3, 3)
    assert all("the pool broke" in reason for reason in found.quality.not_measured.values())
    assert processed(site).quality.measured == 3


def test_a_watermark_is_on_both_sides_and_one_that_disappears_stops_no_batch(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = small_site(make_site, photos=1)
    plain = processed(site).quality
    mark = site.home / "mark.png"
    Image.new("RGB", (40, 40), "red").save(mark)
    site.configure(images={"default": {"watermark": {"image": str(mark), "opacity": 1.0}}})
    marked = processed(site).quality
    assert (plain.measured, marked.measured) == (3, 3)
    assert marked.worst == pytest.approx(plain.worst, abs=8)
    real = QualityWorkers.measure

    def without_mark(workers: QualityWorkers, tasks: list[QualityTask]) -> Iterator[Any]:
        mark.unlink()
        yield from real(workers, tasks)

    monkeypatch.setattr(QualityWorkers, "measure", without_mark)
    site.execute("DELETE FROM pp_quality")
    found = processed(site)
    assert (found.quarantined, found.quality.measured, len(found.quality.not_measured)) == (0, 0, 3)
    assert all("mark.png" in reason for reason in found.quality.not_measured.values())


def test_a_photo_that_changes_meanwhile_is_not_measured_against_another_picture(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = small_site(make_site, photos=1)
    real = QualityWorkers.measure

    def exchanging(workers: QualityWorkers, tasks: list[QualityTask]) -> Iterator[Any]:
        photo(site.uploads / "items/0.jpg", seed=77)
        yield from real(workers, tasks)

    monkeypatch.setattr(QualityWorkers, "measure", exchanging)
    found = processed(site).quality
    assert (found.measured, set(found.not_measured.values())) == (0, {"its photo has changed on disk"})
    assert kept(site) == []


def test_a_variant_that_left_staging_unmeasured_says_so(make_site: MakeSite) -> None:
    site = small_site(make_site, share=0, photos=1)
    site.migrate()
    site.configure(quality={"sample": 1.0})
    found = processed(site).quality
    assert (found.photos, found.measured) == (1, 0)
    assert set(found.not_measured.values()) == {"it does not wait in staging any more"}
    assert kept(site) == []


def test_a_migrated_photo_of_a_source_that_left_the_configuration_is_passed_over(make_site: MakeSite) -> None:
    site = small_site(make_site, share=1.0, photos=1)
    site.migrate()
    site.configure(sources=[site.settings["sources"][0] | {"name": "renamed"}])
    with site.project() as project, BatchLease(project.database, BATCH, run="r") as lease:
        found = process_batch(project.database, project.config, lease, project.workers)
    assert found.quality.photos == 0


# The floor


@MOSTLY_SQLITE
def test_a_score_below_the_floor_violates_the_check(make_site: MakeSite, database: str) -> None:
    site = small_site(make_site, photos=2, database=database)
    processed(site)
    good = checked(site)
    assert (good.holds, good.checked) == (True, 3)
    assert good.figures["worst_score"] > 50
    site.execute("UPDATE pp_quality SET score = 49.9 WHERE key LIKE '%.webp'")
    bad = checked(site)
    assert (bad.holds, bad.checked, bad.violations) == (False, 3, 1)
    assert bad.sample.endswith(".jpg (webp) 49.9")
    assert bad.figures == {"worst_score": 49.9}
    assert bad.statement == "No measured variant looks worse than the floor of 50 points."


def test_the_floor_is_the_configured_one(make_site: MakeSite) -> None:
    site = small_site(make_site, photos=1)
    processed(site)
    site.configure(quality={"sample": 0.02, "floor": 100})
    assert checked(site).violations == 3
    site.configure(quality={"sample": 0.02, "floor": -20})
    site.execute("UPDATE pp_quality SET score = -19.5")
    assert checked(site).holds


def test_what_has_no_score_is_not_below_the_floor(make_site: MakeSite) -> None:
    site = small_site(make_site, photos=1)
    processed(site, workers=quick_workers)
    assert len(kept(site)) == 3
    assert (checked(site).holds, checked(site).checked, checked(site).figures) == (True, 0, {})
