"""Batches brought forward quickly: the real store, CDN and database, but variants that cost no encoding."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, cast

from photo_pipeline.core.imaging.camera import CameraFacts
from photo_pipeline.core.imaging.header import SourceInfo
from photo_pipeline.core.imaging.placeholder import Placeholder
from photo_pipeline.core.imaging.pool import ImageWorkers, PhotoTask
from photo_pipeline.core.imaging.variants import MadePhoto, MadeVariant
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.process import process_batch
from photo_pipeline.core.migration.rewrite import Rewritten, rewrite_batch
from photo_pipeline.core.migration.rollback import RolledBack
from photo_pipeline.core.migration.run import new_run_id, roll_back_batch
from photo_pipeline.core.migration.selection import batches_to_migrate
from photo_pipeline.core.migration.state import settle_forward
from photo_pipeline.core.migration.upload import upload_batch
from photo_pipeline.core.project import Project
from photo_pipeline.core.storage.checksum import md5_hex, sha256_hex
from photo_pipeline_tests.sites import Site

INFO = SourceInfo("JPEG", 320, 240, "RGB", 1, False, 1, "image/jpeg", CameraFacts())
LOOK = Placeholder("", "data:,", "#808080")


class QuickWorkers:
    """Makes variants of a few bytes that depend on content, recipe, variant and format only."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def process(self, tasks: Iterable[PhotoTask]) -> Iterator[tuple[PhotoTask, MadePhoto]]:
        for task in tasks:
            made = []
            content = sha256_hex(task.source.read_bytes())
            for spec, image_format in task.wanted:
                data = f"{content} {task.recipe.digest} {spec.name} {image_format}".encode()
                path = task.staging[spec.name, image_format]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                size = (len(data), spec.width, spec.height)
                digests = (sha256_hex(data), md5_hex(data))
                made.append(MadeVariant(spec.name, image_format, path, *size, 80, 1, True, *digests))
            yield task, MadePhoto(INFO, tuple(made), LOOK, "0" * 16, {})


def quick_workers() -> ImageWorkers:
    """Return a pool that encodes nothing."""
    return cast(ImageWorkers, QuickWorkers())


def upload(project: Project, lease: BatchLease) -> None:
    """Bring the leased batch to where every object is proven."""
    process_batch(project.database, project.config, lease, quick_workers)
    upload_batch(project.database, project.config, lease, project.store, quick_workers)


def uploaded(site: Site) -> list[str]:
    """Take the inventory and bring every open batch to where only the rewrite is left; return the batches."""
    with site.project() as project:
        site.inventory(project)
        keys = batches_to_migrate(project.database)
        for key in keys:
            with BatchLease(project.database, key, run=new_run_id()) as lease:
                upload(project, lease)
        return keys


def rewritten(site: Site, batch: str = "batch-000001", *, run: str | None = None) -> Rewritten:
    """Rewrite one batch whose objects are proven."""
    with site.project() as project, BatchLease(project.database, batch, run=run or new_run_id()) as lease:
        outcome = rewrite_batch(project.database, project.config, lease, project.store, project.cdn)
        settle_forward(project.database, lease)
        return outcome


def migrated(site: Site) -> Rewritten:
    """Bring the one batch of a small site all the way."""
    (batch,) = uploaded(site)
    return rewritten(site, batch)


def again(site: Site, batch: str) -> Rewritten:
    """Run a batch once more by its name, without an inventory."""
    with site.project() as project, BatchLease(project.database, batch, run=new_run_id()) as lease:
        upload(project, lease)
    return rewritten(site, batch)


def rolled_back(site: Site, batch: str = "batch-000001", **options: Any) -> RolledBack:
    """Take one batch back."""
    with site.project() as project:
        return roll_back_batch(project, batch, run=new_run_id(), **options)
