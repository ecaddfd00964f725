"""Measures, once, how much a sample of a batch's variants still look like their photos, and keeps it.

The sample is chosen by content, so that every run and every machine chooses the same photos of a batch. Of
each, all formats of the largest variant that shows the whole picture are measured, from staging: "cover"
variants are cropped, and what is cropped away is no loss of quality.

A measurement decides nothing. What cannot be measured is recorded with its reason, and never costs a photo
or a batch. How a variant is measured is `core.imaging.quality`.
"""

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from math import ceil
from typing import Any

from photo_pipeline.core.catalog.checksums import has_checksum
from photo_pipeline.core.catalog.database import Database, insert_or_update, rows_by_key
from photo_pipeline.core.catalog.tables import PhotoState, quality_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.errors import PhotoError, PhotoPipelineError
from photo_pipeline.core.imaging.quality import (
    MEMORY_BYTES,
    QualityTask,
    QualityWorkers,
    Score,
    VariantFile,
    metric_version,
)
from photo_pipeline.core.imaging.recipe import Recipe
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.measured_quality import MeasuredQuality
from photo_pipeline.core.migration.naming import ObjectNaming, WantedObject, staged_path
from photo_pipeline.core.migration.photos import Photo, batch_photos, object_rows
from photo_pipeline.core.progress import Progress, no_progress

_Judged = tuple[QualityTask, tuple[Score, ...]]

_MADE = (PhotoState.PROCESSED, PhotoState.UPLOADED, PhotoState.MIGRATED)


def measure_batch(
    database: Database,
    config: PipelineConfig,
    lease: BatchLease,
    *,
    retry_failed: bool = False,
    progress: Progress = no_progress,
) -> MeasuredQuality:
    """Measure the batch's sample as far as that was not done before.

    Args:
        database: The application's database.
        config: The share to measure, presets, and the staging folder.
        lease: The held lease on the batch.
        retry_failed: Try again what could not be measured before.
        progress: Told after each photo.

    Raises:
        LeaseLostError: another run has taken the batch over.
        DatabaseError: the database failed.
    """
    if not config.quality.sample:
        return MeasuredQuality()
    return _BatchJudge(database, config, lease).run(retry_failed, progress)


def largest_whole_variant(recipe: Recipe) -> str | None:
    """Return the name of the largest variant that is not cropped, or None if the recipe has none."""
    whole = [spec for spec in recipe.variants if spec.fit == "inside"]
    return max(whole, key=lambda spec: spec.width * spec.height).name if whole else None


def choose_sample(batch: str, contents: Iterable[str], *, share: float) -> list[str]:
    """Return the contents (SHA-256) to measure: that share, at least one, as good as at random.

    The batch is part of the choice: a photo that many batches have would else be in each one's sample.
    """
    ordered = sorted(set(contents), key=lambda content: sha256(f"{batch}{content}".encode()).digest())
    return ordered[: ceil(share * len(ordered))]


@dataclass(frozen=True)
class _Sampled:
    """One photo of the sample, with the variants to measure."""

    photo: Photo
    recipe: Recipe
    wanted: tuple[WantedObject, ...]


class _BatchJudge:
    def __init__(self, database: Database, config: PipelineConfig, lease: BatchLease) -> None:
        self._database = database
        self._config = config
        self._lease = lease
        self._naming = ObjectNaming(config, database)
        self._bucket = config.store.bucket
        self._sampled: dict[str, _Sampled] = {}
        self._names: dict[str, str] = {}  # by key, for people
        self._missing: dict[str, str] = {}  # reasons by key that are not worth keeping

    def run(self, retry_failed: bool, progress: Progress) -> MeasuredQuality:
        self._sampled = {f"{each.photo.sha256}/{each.recipe.digest}": each for each in self._sample()}
        known = self._known()
        done = {key for key, row in known.items() if row.score is not None or not retry_failed}
        tasks = self._tasks(done)
        with closing(self._judged(tasks)) as judged:
            for number, (task, scores) in enumerate(judged, start=1):
                self._store(task, scores)
                progress("quality", number, len(tasks))
        return self._summary(known)

    def _sample(self) -> Iterator[_Sampled]:
        by_content: dict[str, dict[str, _Sampled]] = {}
        for photo in batch_photos(self._database, self._lease.batch, _MADE):
            each = self._with_variants(photo) if self._has_variants(photo) else None
            if each is not None:
                by_content.setdefault(photo.sha256, {}).setdefault(each.recipe.digest, each)
        for content in choose_sample(self._lease.batch, by_content, share=self._config.quality.sample):
            yield from by_content[content].values()

    def _has_variants(self, photo: Photo) -> bool:
        """Whether it is no copy, and the configuration still knows it: a migrated one may have left it."""
        sources = {source.name for source in self._config.sources}
        roots = {root.name for root in self._config.roots}
        return not photo.is_copy and photo.source in sources and photo.root in roots

    def _with_variants(self, photo: Photo) -> _Sampled | None:
        """Return the photo with its variants to measure, or None where it has none of the present recipe."""
        recipe = self._naming.recipe(photo)
        largest = largest_whole_variant(recipe)
        is_earlier = photo.state == PhotoState.MIGRATED and photo.recipe not in (None, recipe.digest)
        if largest is None or is_earlier:
            return None
        wanted = tuple(each for each in self._naming.variants(photo) if each.variant == largest)
        self._names |= {each.key: f"{photo.path} ({each.format})" for each in wanted}
        return _Sampled(photo, recipe, wanted)

    def _known(self) -> dict[str, Any]:
        with self._database.read() as connection:
            keys = [each.key for sampled in self._sampled.values() for each in sampled.wanted]
            return rows_by_key(connection, quality_table, self._bucket, keys)

    def _tasks(self, done: set[str]) -> list[QualityTask]:
        tasks = []
        for name, sampled in self._sampled.items():
            variants = self._staged([each for each in sampled.wanted if each.key not in done])
            if variants:
                tasks.append(
                    QualityTask(
                        id=name,
                        source=sampled.photo.location(self._config),
                        variants=variants,
                        background=sampled.recipe.background,
                        max_pixels=sampled.recipe.max_pixels,
                        watermark=sampled.recipe.watermark,
                    )
                )
        return tasks

    def _staged(self, wanted: list[WantedObject]) -> tuple[VariantFile, ...]:
        """Return the variants that wait whole in staging; note the others."""
        with self._database.read() as connection:
            rows = object_rows(connection, self._bucket, [each.key for each in wanted])
        files = []
        for each in wanted:
            row, path = rows.get(each.key), staged_path(self._config, each.key)
            if row is not None and has_checksum(path, row.checksum):
                files.append(VariantFile(each.key, path, (row.width, row.height)))
            else:
                self._missing[each.key] = "it does not wait in staging any more"
        return tuple(files)

    def _judged(self, tasks: list[QualityTask]) -> Generator[_Judged, None, None]:
        """Yield each task with its scores; a pool that breaks ends it, with a reason for what is left."""
        if not tasks:
            return
        left = {variant.key for task in tasks for variant in task.variants}
        try:
            with QualityWorkers(self._processes(len(tasks))) as workers:
                for task, result in workers.measure(tasks):
                    left -= {variant.key for variant in task.variants}
                    if isinstance(result, PhotoError):
                        result = tuple(Score(each.key, None, result.cause) for each in task.variants)
                    yield task, result
        except (PhotoPipelineError, OSError) as error:
            self._missing |= dict.fromkeys(left, f"measuring broke off ({error})")

    def _processes(self, tasks: int) -> int:
        """As many as fit into the memory that the makers of the variants have just given back."""
        settings = self._config.workers
        makers = settings.processes or len(os.sched_getaffinity(0))
        return max(1, min(tasks, makers * settings.memory_bytes // MEMORY_BYTES))

    def _store(self, task: QualityTask, scores: tuple[Score, ...]) -> None:
        # Measured against another picture, the best of variants would look bad.
        if not has_checksum(task.source, self._sampled[task.id].photo.sha256):
            self._missing |= dict.fromkeys((each.key for each in scores), "its photo has changed on disk")
            return
        now = utc_now()
        rows = [
            {
                "bucket": self._bucket,
                "key": each.key,
                "batch": self._lease.batch,
                "score": each.points,
                "reason": each.reason,
                "metric": metric_version(),
                "measured_at": now,
            }
            for each in scores
        ]
        with self._database.write() as connection:
            self._lease.hold(connection)
            insert_or_update(connection, quality_table, rows)

    def _summary(self, before: dict[str, Any]) -> MeasuredQuality:
        rows = self._known()
        scores = {key: row.score for key, row in rows.items() if row.score is not None}
        reused = [key for key in scores if key in before and before[key].score is not None]
        reasons = {key: row.reason for key, row in rows.items() if row.score is None}
        return MeasuredQuality(
            photos=len({each.photo.sha256 for each in self._sampled.values()}),
            measured=len(scores) - len(reused),
            reused=len(reused),
            mean=sum(scores.values()) / len(scores) if scores else None,
            worst=min(scores.values(), default=None),
            not_measured={self._names[key]: reason for key, reason in (self._missing | reasons).items()},
        )
