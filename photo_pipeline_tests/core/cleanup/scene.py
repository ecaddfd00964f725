"""A migrated site and its bucket, days later."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from photo_pipeline.core.cleanup.drift import Drift, look_for_drift
from photo_pipeline.core.cleanup.orphans_bucket import LiveListing, StoreBucket
from photo_pipeline.core.cleanup.orphans_delete import DeletedOrphans, delete_orphans
from photo_pipeline.core.cleanup.orphans_marks import Marked, mark
from photo_pipeline.core.cleanup.orphans_scan import Scan, scan
from photo_pipeline.core.cleanup.orphans_undo import Undone, undo
from photo_pipeline.core.cleanup.orphans_workspace import Workspace
from photo_pipeline.core.migration.run import new_run_id
from photo_pipeline.core.project import Project
from photo_pipeline_tests.sites import Site


class LaterBucket(StoreBucket):
    """The real bucket, whose clock the test moves: no server lets its objects age."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return super().now() + self.ahead


@dataclass
class Scene:
    """One opened site."""

    site: Site
    project: Project
    bucket: LaterBucket

    def later(self, **ahead: float) -> None:
        """Let time pass."""
        self.bucket.ahead += timedelta(**ahead)

    def put(self, key: str, data: bytes = b"nobody's") -> str:
        """Store an object as anybody may, and return its key."""
        self.project.store.s3.put_object(Bucket=self.bucket.name, Key=key, Body=data)
        return key

    def key_of_nobody(self, seed: object = 0, recipe: str = "0123456789ab", file: str = "full.jpg") -> str:
        """A key of our spelling of which nobody knows."""
        sha = hashlib.sha256(str(seed).encode()).hexdigest()
        return f"{self.project.config.store.prefix}/{sha[:2]}/{sha}/{recipe}/{file}"

    def stored(self) -> set[str]:
        return {each.key for each in self.bucket.objects()}

    def scan(self) -> Scan:
        with Workspace() as workspace:
            return scan(workspace, *self._parts(), LiveListing(self.bucket))

    def drift(self, **options: Any) -> Drift:
        with Workspace() as workspace:
            scan(workspace, *self._parts(), LiveListing(self.bucket))
            return look_for_drift(workspace, *self._parts(), **options)

    def mark(self, **options: Any) -> Marked:
        options = {"apply": True, "max_share": 1.0, "run": new_run_id()} | options
        with Workspace() as workspace:
            return mark(workspace, *self._parts(), LiveListing(self.bucket), **options)[1]

    def delete(self, **options: Any) -> DeletedOrphans:
        options = {"apply": True, "max_share": 1.0, "run": new_run_id()} | options
        with Workspace() as workspace:
            return delete_orphans(workspace, *self._parts(), LiveListing(self.bucket), **options)[1]

    def undo(self, **options: Any) -> Undone:
        options = {"apply": True, "run": new_run_id()} | options
        return undo(self.project.database, self.bucket, **options)

    def orphans(self) -> set[str]:
        return {each.key for each in self.scan().orphans}

    def _parts(self) -> Any:
        return self.project.database, self.project.config, self.bucket


def later_bucket(project: Project) -> LaterBucket:
    return LaterBucket(project.database, project.store)


@contextmanager
def opened(site: Site) -> Iterator[Scene]:
    with site.project() as project:
        yield Scene(site, project, later_bucket(project))
