"""Proves a migrated batch from the outside: row, URL, CDN, object, for each photo (PRODUCT G1).

Reads the application's row and fetches what a visitor would get; trusts nothing that an earlier step
claims except the checksums that were computed when the variants were made.
"""

import io
import math
import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from PIL import Image, UnidentifiedImageError

from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import PhotoState, photo_table, utc_now, validation_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.guard import CostGuard
from photo_pipeline.core.cost.ledger import stored_by_format
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.delivery.canary import Expected, delivery_problems
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.migration.expected_delivery import expected_of, negotiated
from photo_pipeline.core.migration.naming import ObjectNaming, WantedObject
from photo_pipeline.core.migration.photos import Photo, batch_photos, object_rows, row_primaries
from photo_pipeline.core.migration.proof import is_proven_object, is_proven_row
from photo_pipeline.core.migration.shown_rows import ShownRows
from photo_pipeline.core.progress import Progress, no_progress
from photo_pipeline.core.storage.probe import probe_store
from photo_pipeline.core.storage.proof import is_proven
from photo_pipeline.core.storage.store import PhotoStore

_THREADS = 8
_METADATA = ("exif", "xmp", "icc_profile", "comment", "photoshop")


@dataclass(frozen=True)
class PhotoProblems:
    """One photo that did not pass, and why (sentences)."""

    photo_id: int
    source: str
    row_key: str
    path: str
    problems: tuple[str, ...]


@dataclass
class Validated:
    """What one validation of a batch found; photos are counted by reference."""

    photos: int = 0
    checked: int = 0
    passed: int = 0
    failed: int = 0
    urls_fetched: int = 0
    bytes_fetched: int = 0
    findings: list[PhotoProblems] = field(default_factory=list)

    def add(self, other: "Validated") -> None:
        """Add what was checked of another batch; `photos` stays."""
        for name in ("checked", "passed", "failed", "urls_fetched", "bytes_fetched"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.findings += other.findings


def validate_batch(
    database: Database,
    config: PipelineConfig,
    cdn: Cdn,
    batch: str,
    *,
    run: str,
    sample: float = 1.0,
    progress: Progress = no_progress,
) -> Validated:
    """Check the batch's migrated photos, all or a random sample, and record the result per photo.

    Args:
        database: The application's database.
        config: Naming and presets.
        cdn: The delivery side.
        batch: The batch's key.
        run: The id under which results are recorded.
        sample: Share of the photos to check, 0 < sample ≤ 1.
        progress: Told after each photo.

    Raises:
        DeliveryError: the CDN cannot be reached at all.
    """
    return _BatchValidator(database, config, cdn, batch, run).run(sample, progress)


def validate_sample(
    database: Database,
    config: PipelineConfig,
    cdn: Cdn,
    store: PhotoStore,
    *,
    run: str,
    sample: float,
    progress: Progress = no_progress,
) -> Validated:
    """Check a random sample of all migrated photos, also that the store still holds their objects.

    A CDN may go on delivering from its cache what the bucket has lost.

    Args:
        database: The application's database.
        config: Naming and presets.
        cdn: The delivery side.
        store: The bucket, which is asked for the checksum of each object of the sample.
        run: The id under which results are recorded.
        sample: Share of all migrated photos, 0 < sample ≤ 1; at least one photo is checked.
        progress: Told after each photo.

    Raises:
        DeliveryError: the CDN cannot be reached at all.
        StoreError: the store cannot be asked.
        BudgetError: the limits have no room for so many questions to the store.
    """
    columns, total = photo_table.c, Validated()
    migrated = [columns.state == PhotoState.MIGRATED, columns.batch.is_not(None)]
    with database.read() as connection:
        total.photos = connection.execute(sa.select(sa.func.count()).where(*migrated)).scalar_one()
        size = max(1, round(total.photos * sample))
        query = sa.select(columns.batch, columns.id).where(*migrated).order_by(sa.func.random()).limit(size)
        chosen: dict[str, set[int]] = defaultdict(set)
        for batch, photo_id in connection.execute(query):
            chosen[batch].add(photo_id)
        objects = sum(each.objects for each in stored_by_format(connection).values())
    # As many as its share of the photos; copies share theirs.
    questions = math.ceil(objects * min(size, total.photos) / max(total.photos, 1))
    guard = CostGuard.of(database, config)
    with guard.reading(store.meter, {Unit.GETS: questions}, what="validation of a sample"):
        for batch, photos in sorted(chosen.items()):
            validator = _BatchValidator(database, config, cdn, batch, run, store)
            total.add(validator.run(1.0, progress, only=photos))
    return total


@dataclass(frozen=True)
class _Judged:
    """What is left of one answer of the CDN once it was looked at; a batch's bodies would fill the memory."""

    problems: tuple[str, ...]
    bytes: int


@dataclass(frozen=True)
class _Asked:
    """One request to the CDN: its name among the batch's, how messages call it, what must come."""

    name: str
    title: str
    row: Any
    expected: Expected


class _BatchValidator:
    def __init__(
        self,
        database: Database,
        config: PipelineConfig,
        cdn: Cdn,
        batch: str,
        run: str,
        store: PhotoStore | None = None,
    ) -> None:
        self._store = store
        self._database = database
        self._config = config
        self._cdn = cdn
        self._batch = batch
        self._run = run
        self._naming = ObjectNaming(config, database)
        self._rows = ShownRows(database, config, self._naming)
        self._outcome = Validated()
        self._proven: dict[str, Any] = {}  # `pp_object` rows by key
        self._lost: set[str] = set()  # keys that the store was asked for in vain

    def run(self, sample: float, progress: Progress, *, only: Collection[int] | None = None) -> Validated:
        photos = batch_photos(self._database, self._batch, (PhotoState.MIGRATED, PhotoState.STORED))
        leading = row_primaries(self._database, self._config, photos)
        chosen = _sampled([photo for photo in photos if only is None or photo.id in only], sample)
        self._outcome.photos = len(photos)
        self._load_proven(chosen, leading)
        judged = self._fetch_all(chosen, progress)
        for photo in chosen:
            self._judge(photo, leading.get(photo.row_id), judged)
        self._record(chosen)
        return self._outcome

    def _load_proven(self, photos: Sequence[Photo], leading: dict[str, Photo]) -> None:
        keys = {each.key for p in photos for each in self._naming.needed(p, leading.get(p.row_id))}
        keys.update(key for photo in photos for key in self._rows.named(photo))
        with self._database.read() as connection:
            rows = object_rows(connection, self._config.store.bucket, keys)
        self._proven = {key: row for key, row in rows.items() if is_proven_row(row)}
        if self._store is not None and self._proven:
            probe = probe_store(self._database, self._store)
            self._lost = {
                key
                for key, row in self._proven.items()
                if not is_proven(self._store, probe, key, row.checksum, size=row.bytes)
            }

    def _fetch_all(self, photos: Sequence[Photo], progress: Progress) -> dict[str, _Judged]:
        # Each delivered file is fetched once, however many rows show it. What is not proven is never asked
        # for: a CDN keeps the error that it would answer.
        variants = (each for p in photos if not p.is_copy for each in self._naming.variants(p))
        wanted = [
            *{each.key: self._by_name(each) for each in variants if each.key in self._proven}.values(),
            *self._by_accept(photos),
        ]
        judged = {}
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="validate") as pool:
            for done, result in enumerate(pool.map(self._fetch, wanted), start=1):
                judged[wanted[done - 1].name] = result
                progress("urls", done, len(wanted))
        self._outcome.urls_fetched = len(judged)
        self._outcome.bytes_fetched = sum(result.bytes for result in judged.values())
        return judged

    def _by_name(self, wanted: WantedObject) -> _Asked:
        row = self._proven[wanted.key]
        expected = expected_of(self._config, self._naming.urls.url(wanted.key), row)
        return _Asked(wanted.key, f"{wanted.variant} {wanted.format}", row, expected)

    def _by_accept(self, photos: Sequence[Photo]) -> list[_Asked]:
        """Return each `.auto` URL that rows carry, once for each format that a browser may take."""
        asked: dict[str, _Asked] = {}
        for photo in photos:
            if (auto := self._rows.auto_key(photo)) is None:
                continue
            rows = [self._proven[key] for key in self._rows.named(photo) if key in self._proven]
            if len(rows) < len(ImageFormat):
                continue  # Said of the row beside this; a CDN would keep the error for what is missing.
            for row in rows:
                expected = negotiated(self._config, self._naming.urls.url(auto), row)
                asked[f"{auto} {row.format}"] = _Asked(
                    f"{auto} {row.format}", f"{row.variant} auto for {row.format}", row, expected
                )
        return list(asked.values())

    def _fetch(self, asked: _Asked) -> _Judged:
        answer = self._cdn.fetch(asked.expected.url, accept=asked.expected.accept)
        problems = delivery_problems(answer, asked.expected)
        if answer.status == 200:
            problems += _picture_problems(asked.title, answer.body, asked.row)
        return _Judged(tuple(problems), len(answer.body))

    def _judge(self, photo: Photo, primary: Photo | None, judged: dict[str, _Judged]) -> None:
        problems = self._rows.problems(photo, self._proven)
        for each in self._naming.needed(photo, primary):
            if not is_proven_object(each, self._proven.get(each.key)):
                problems.append(f"{each.variant} {each.format}: no proven object {each.key}")
            elif each.key in self._lost:
                problems.append(f"{each.variant} {each.format}: the store no longer holds {each.key} intact")
            elif each.key in judged:
                problems += judged[each.key].problems
        if (auto := self._rows.auto_key(photo)) is not None:
            by_accept = (judged.get(f"{auto} {each.value}") for each in ImageFormat)
            problems += [problem for each in by_accept if each is not None for problem in each.problems]
        self._outcome.checked += 1
        if problems:
            self._outcome.failed += 1
            self._outcome.findings.append(
                PhotoProblems(photo.id, photo.source, photo.row_key, photo.path, tuple(problems))
            )
        else:
            self._outcome.passed += 1

    def _record(self, photos: Sequence[Photo]) -> None:
        now = utc_now()
        findings = {finding.photo_id: finding.problems for finding in self._outcome.findings}
        rows = [
            {
                "photo_id": photo.id,
                "batch": self._batch,
                "ok": photo.id not in findings,
                "problems": list(findings.get(photo.id, ())),
                "run": self._run,
                "checked_at": now,
            }
            for photo in photos
        ]
        if not rows:
            return
        ids = [photo.id for photo in photos]
        with self._database.write() as connection:
            connection.execute(sa.delete(validation_table).where(validation_table.c.photo_id.in_(ids)))
            connection.execute(sa.insert(validation_table), rows)
            passed = [photo_id for photo_id in ids if photo_id not in findings]
            connection.execute(
                sa.update(photo_table).where(photo_table.c.id.in_(passed)).values(validated_at=now)
            )


def _sampled(photos: list[Photo], share: float) -> list[Photo]:
    if share >= 1:
        return photos
    return random.sample(photos, min(len(photos), max(1, round(len(photos) * share)))) if photos else []


def _picture_problems(name: str, body: bytes, row: Any) -> list[str]:
    """Decode the delivered bytes and compare them with the catalogue."""
    try:
        with Image.open(io.BytesIO(body), formats=[ImageFormat(row.format).name]) as image:
            image.load()
            size, info = image.size, image.info
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        return [f"{name}: it does not decode ({error})"]
    problems = []
    if size != (row.width, row.height):
        problems.append(f"{name}: it has {size[0]}x{size[1]} px, not {row.width}x{row.height}")
    leaks = [key for key in _METADATA if info.get(key)]
    if leaks:
        problems.append(f"{name}: it carries metadata ({', '.join(leaks)})")
    return problems
