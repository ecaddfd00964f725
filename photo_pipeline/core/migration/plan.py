"""What a migration would do, found out without writing anything anywhere (PRODUCT A7).

The inventory, the batches and the naming are the migration's own code, run on temporary state tables
(`catalog.scratch`). Bytes and time are foretold from encoding a random sample into a temporary folder; the
interval beside each figure is what drawing a sample leaves open, and nothing else.
"""

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

from photo_pipeline.core.catalog.batches import assign_batches
from photo_pipeline.core.catalog.checksums import hash_matched_files
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.inventory import Inventory, take_inventory
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.budget import Budget
from photo_pipeline.core.cost.fit import Fit, Workload, fit
from photo_pipeline.core.errors import PhotoError
from photo_pipeline.core.imaging.pool import ImageWorkers, PhotoTask
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.imaging.variants import MadePhoto
from photo_pipeline.core.migration.naming import ObjectNaming
from photo_pipeline.core.migration.plan_preview import Outcomes, Previewer
from photo_pipeline.core.migration.planned_work import Content, Work, WorkCollector
from photo_pipeline.core.migration.row_rewrite import RowPreview
from photo_pipeline.core.migration.sampling import Estimate, Stratum, draw, share_at_most, total
from photo_pipeline.core.migration.selection import batches_to_migrate
from photo_pipeline.core.progress import Progress, no_progress

# Not measured, since that would need requests: what a PUT and the HEAD after it take, and the way up.
ASSUMED_REQUEST_S = 0.06
ASSUMED_UPLINK_BITS_S = 100_000_000


@dataclass(frozen=True)
class SampleFacts:
    """Which photos were encoded for the forecast; `encoded` and `photos` by source."""

    seed: int
    encoded: dict[str, int]
    photos: dict[str, int]
    failures: dict[str, str]
    quarantined_share_at_most: float


@dataclass(frozen=True)
class PlannedCost:
    """What requests and storage cost at list price, in US dollars, and under which limits they fit."""

    requests_usd: Estimate
    storage_usd_per_month: Estimate
    prices_as_of: date
    prices_source: str
    region: str
    fit: Fit
    free_tier: str
    free_tier_puts_per_month: int
    free_tier_months: int | None


@dataclass(frozen=True)
class PlannedTime:
    """Seconds of wall time. The transfer is reckoned from the two assumptions, not measured."""

    encode_s: Estimate
    transfer_s: float
    assumed_request_s: float
    assumed_uplink_bits_s: int


@dataclass(frozen=True)
class Plan:
    """The forecast of one migration; sizes in bytes.

    `photos` are references that would move, `contents` the different pictures among them. `put_requests`
    is exact as long as no photo is quarantined on the way; `expected_puts` reckons with the sample's share.
    """

    inventory: Inventory
    batches: int
    photos: int
    rows: int
    contents: int
    objects: int
    objects_already_proven: int
    put_requests: int
    proof_requests: int
    expected_puts: Estimate
    original_bytes: int
    variant_bytes: Estimate
    upload_bytes: Estimate
    sample: SampleFacts
    cost: PlannedCost
    time: PlannedTime
    rows_shown: tuple[RowPreview, ...]
    plan_seconds: float = 0.0


def make_plan(
    database: Database,
    config: PipelineConfig,
    workers: Callable[[], AbstractContextManager[ImageWorkers]],
    *,
    processes: int,
    sample: int = 50,
    rows_shown: int = 3,
    seed: int = 1,
    progress: Progress = no_progress,
) -> Plan:
    """Return what the next `migrate` would do.

    Args:
        database: A `ScratchDatabase`: the inventory is written to what it is given.
        config: The project's configuration.
        workers: Opens the pool of image workers.
        processes: How many processes that pool has.
        sample: How many photos to encode, drawn at random from each source.
        rows_shown: How many of their rows to show as they would become.
        seed: The same seed draws the same photos.
        progress: Told after each chunk and photo.

    Raises:
        ConfigurationError: as `take_inventory`.
        InfrastructureError: as `take_inventory`; or no temporary folder can be written.
    """
    started = time.perf_counter()
    inventory = take_inventory(database, config, progress=progress)
    hash_matched_files(database, config, progress=progress)
    assign_batches(database, config)
    batches = batches_to_migrate(database)
    work = WorkCollector(database, config).collect(batches)
    drawn = draw(work.to_make, stratum=lambda each: each.photo.source, size=sample, seed=seed)
    outcomes = _encode(ObjectNaming(config, database), config, drawn, workers, progress)
    forecast = _Forecast(config, work, drawn, outcomes, processes=processes, seed=seed)
    previews = Previewer(database, config, outcomes).show(drawn, rows_shown)
    plan = forecast.plan(inventory, batches=len(batches), rows_shown=previews)
    return replace(plan, plan_seconds=time.perf_counter() - started)


def _encode(
    naming: ObjectNaming,
    config: PipelineConfig,
    drawn: Mapping[str, list[Content]],
    workers: Callable[[], AbstractContextManager[ImageWorkers]],
    progress: Progress,
) -> Outcomes:
    """Make the lacking variants of the sample in a temporary folder."""
    contents = {str(each.photo.id): each for group in drawn.values() for each in group}
    outcomes: dict[int, tuple[MadePhoto | PhotoError, float]] = {}
    if not contents:
        return outcomes
    with tempfile.TemporaryDirectory(prefix="photo-pipeline-plan-") as folder, workers() as pool:
        tasks = _tasks(config, naming, contents.values(), Path(folder))
        for task, made in pool.process(tasks):
            seconds = sum(made.timings.values()) if isinstance(made, MadePhoto) else 0.0
            outcomes[int(task.id)] = (made, seconds)
            for path in task.staging.values():
                path.unlink(missing_ok=True)
            progress("sample", len(outcomes), len(contents))
    return outcomes


def _tasks(
    config: PipelineConfig, naming: ObjectNaming, contents: Iterable[Content], folder: Path
) -> Iterator[PhotoTask]:
    for each in contents:
        recipe = naming.recipe(each.photo)
        specs = {spec.name: spec for spec in recipe.variants}
        wanted = tuple((specs[v.variant], ImageFormat(v.format)) for v in each.variants)
        yield PhotoTask(
            id=str(each.photo.id),
            source=each.photo.location(config),
            recipe=recipe,
            wanted=wanted,
            staging={
                (spec.name, made): folder / f"{each.photo.id}-{spec.name}.{made.extension}"
                for spec, made in wanted
            },
        )


class _Forecast:
    """Works out the totals from what the sample's photos became."""

    def __init__(
        self,
        config: PipelineConfig,
        work: Work,
        drawn: Mapping[str, list[Content]],
        outcomes: Outcomes,
        *,
        processes: int,
        seed: int,
    ) -> None:
        self._config = config
        self._work = work
        self._drawn = drawn
        self._outcomes = outcomes
        self._processes = processes
        self._seed = seed
        self._sizes = Counter(each.photo.source for each in work.to_make)

    def plan(self, inventory: Inventory, *, batches: int, rows_shown: tuple[RowPreview, ...]) -> Plan:
        work, objects = self._work, self._work.objects
        originals = sum(work.originals.values())
        variants = self._total(lambda made, _: float(sum(each.bytes for each in made.variants)))
        lost_bytes = self._total(None, lambda content: float(content.untouched_bytes))
        lost_objects = self._total(None, lambda content: float(content.objects))
        upload = _sum(variants, lost_bytes.times(-1)).plus(originals)
        puts = lost_objects.times(-1).plus(objects)
        return Plan(
            inventory=inventory,
            batches=batches,
            photos=work.photos,
            rows=len(work.rows),
            contents=len(work.contents),
            objects=objects,
            objects_already_proven=len(work.proven),
            put_requests=objects,
            proof_requests=objects,
            expected_puts=puts,
            original_bytes=originals,
            variant_bytes=variants,
            upload_bytes=upload,
            sample=self._facts(),
            cost=self._cost(puts, upload),
            time=self._time(objects, upload),
            rows_shown=rows_shown,
        )

    def _total(
        self,
        of_made: Callable[[MadePhoto, float], float] | None,
        of_failed: Callable[[Content], float] | None = None,
    ) -> Estimate:
        """Return the total over all contents of a figure of those that are made, or of those that fail."""

        def figure(content: Content) -> float:
            made, seconds = self._outcomes[content.photo.id]
            if isinstance(made, MadePhoto):
                return of_made(made, seconds) if of_made else 0.0
            return of_failed(content) if of_failed else 0.0

        return total(
            {
                name: Stratum(self._sizes[name], tuple(figure(each) for each in group))
                for name, group in self._drawn.items()
            }
        )

    def _time(self, objects: int, upload: Estimate) -> PlannedTime:
        encode = self._total(lambda _, seconds: seconds).times(1 / self._processes)
        # A PUT and its proof, by as many threads as upload; the bytes go up one way.
        waiting = objects * 2 * ASSUMED_REQUEST_S / self._config.upload.concurrency
        moving = upload.value * 8 / ASSUMED_UPLINK_BITS_S
        return PlannedTime(encode, max(waiting, moving), ASSUMED_REQUEST_S, ASSUMED_UPLINK_BITS_S)

    def _cost(self, puts: Estimate, upload: Estimate) -> PlannedCost:
        budget = Budget.of(self._config)
        prices, fitting = budget.prices, fit(self._workload(upload), budget)
        free = fitting.plans[0]
        return PlannedCost(
            # Each PUT is followed by one proof.
            requests_usd=puts.times(prices.requests_usd(puts=1, gets=1)),
            storage_usd_per_month=upload.times(prices.storage_usd_per_month(1)),
            prices_as_of=prices.as_of,
            prices_source=prices.source,
            region=prices.region,
            fit=fitting,
            free_tier=free.title,
            free_tier_puts_per_month=free.puts_per_month,
            free_tier_months=free.months,
        )

    def _workload(self, upload: Estimate) -> Workload:
        presets = {source.preset for source in self._config.sources}
        return Workload(
            pictures=len(self._work.contents),
            objects=self._work.objects,
            stored_bytes=upload.value,
            batch_size=self._config.batches.size,
            sizes=max(len(self._config.variants[name]) for name in presets),
            formats=len(ImageFormat),
        )

    def _facts(self) -> SampleFacts:
        failures = {
            content.photo.path: str(made)
            for group in self._drawn.values()
            for content in group
            if isinstance(made := self._outcomes[content.photo.id][0], PhotoError)
        }
        drawn = sum(len(group) for group in self._drawn.values())
        return SampleFacts(
            seed=self._seed,
            encoded={name: len(group) for name, group in self._drawn.items()},
            photos=dict(self._sizes),
            failures=failures,
            quarantined_share_at_most=share_at_most(len(failures), drawn, len(self._work.to_make)),
        )


def _sum(one: Estimate, other: Estimate) -> Estimate:
    """Return the sum of two estimates from one sample; their errors are taken to add up, at worst."""
    return Estimate(
        one.value + other.value,
        one.standard_error + other.standard_error,
        one.low + other.low,
        one.high + other.high,
    )
