"""Brings the objects that migrated photos will need under another recipe or prefix, and proves them.

An object whose bytes are in the bucket under another key is copied; any other is made anew, from the local
file or, where that is gone, from the original in the store. Photos keep their state: their rows show the old
objects all the while. The first upload of a photo is `upload`.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from photo_pipeline.core.catalog.database import Database, insert_or_update
from photo_pipeline.core.catalog.tables import object_table, utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.caching import NOT_SERVED, cache_control
from photo_pipeline.core.durable import write_durably
from photo_pipeline.core.errors import PhotoChangedError, PhotoError, StorageConflictError
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.migration.made_objects import object_row
from photo_pipeline.core.migration.naming import ObjectNaming, WantedObject, remember_recipe, staged_path
from photo_pipeline.core.migration.one_object import object_metadata
from photo_pipeline.core.migration.originals import read_original
from photo_pipeline.core.migration.photos import Photo, object_rows
from photo_pipeline.core.migration.process import Workers, require_unchanged
from photo_pipeline.core.migration.proof import is_proven_row, refuse_while_deleted
from photo_pipeline.core.migration.watch import ControlWatch
from photo_pipeline.core.storage.checksum import md5_hex, sha256_hex
from photo_pipeline.core.storage.probe import probe_store
from photo_pipeline.core.storage.proof import proven_by
from photo_pipeline.core.storage.store import PhotoStore

if TYPE_CHECKING:  # as in `process`
    from photo_pipeline.core.imaging.pool import PhotoTask


class ObjectSupply:
    """Brings what is missing, for one batch."""

    def __init__(
        self,
        database: Database,
        config: PipelineConfig,
        lease: BatchLease,
        store: PhotoStore,
        naming: ObjectNaming,
    ) -> None:
        self._database = database
        self._config = config
        self._lease = lease
        self._store = store
        self._naming = naming
        self._watch = ControlWatch(database)
        self.brought = 0
        """How many objects were copied or made and proven."""

    def bring(self, photos: Sequence[Photo], workers: Workers) -> dict[str, str]:
        """Bring every missing object of the (primary) photos; return, by picture, why some cannot be had.

        A picture is a content under one recipe: rows with the same content may have been migrated under
        different ones.

        Raises:
            PausedError: somebody paused the migration; what was proven until then is recorded.
            StoreError: the store cannot be asked; what was proven until then is recorded.
            LeaseLostError: another run has taken the batch over.
        """
        failed: dict[str, str] = {}
        to_make: dict[str, tuple[Photo, list[WantedObject]]] = {}
        for name, photo in {self._picture(photo): photo for photo in photos}.items():
            self._watch.check()
            try:
                missing = [each for each in self._missing(photo) if not self._copy(photo, each)]
            except PhotoError as error:
                failed[name] = str(error)
                continue
            if missing:
                to_make[name] = (photo, missing)
        if to_make:
            failed |= self._make(to_make, workers)
        return failed

    def _missing(self, photo: Photo) -> list[WantedObject]:
        original = self._naming.original(photo)
        wanted = [*self._naming.variants(photo), *([original] if original else [])]
        with self._database.read() as connection:
            rows = object_rows(connection, self._store.bucket, [each.key for each in wanted])
            refuse_while_deleted(connection, rows.values())
        return [each for each in wanted if not is_proven_row(rows.get(each.key))]

    def _copy(self, photo: Photo, wanted: WantedObject) -> bool:
        """Bring the object from another of its keys; return whether there was one."""
        columns = object_table.c
        query = sa.select(object_table).where(
            columns.bucket == self._store.bucket,
            columns.source_sha256 == wanted.source_sha256,
            columns.recipe == wanted.recipe,
            columns.variant == wanted.variant,
            columns.format == wanted.format,
            columns.key != wanted.key,
        )
        with self._database.read() as connection:
            rows = [row for row in connection.execute(query) if is_proven_row(row)]
        for row in rows:
            data = self._store.read(row.key, size=row.bytes)
            if data is not None and sha256_hex(data) == row.checksum:
                self._put(photo, wanted, data, dict(row._mapping))
                return True
        return False

    def _put(self, photo: Photo, wanted: WantedObject, data: bytes, facts: dict[str, Any]) -> None:
        """Store one object, prove it and record it; `facts` are the columns of its `pp_object` row.

        Raises:
            StorageConflictError: the store holds something else under the key.
        """
        probe = probe_store(self._database, self._store)
        checksum, md5 = sha256_hex(data), md5_hex(data)
        self._store.put_new(
            wanted.key,
            data,
            content_type=facts["mime"],
            cache_control=cache_control(self._config.cdn, wanted.format) if wanted.recipe else NOT_SERVED,
            metadata=object_metadata(wanted, photo, checksum, facts),
        )
        how = proven_by(self._store, probe, wanted.key, checksum, size=len(data), md5=md5)
        if not how:
            raise StorageConflictError(
                f"s3://{self._store.bucket}/{wanted.key}",
                cause="the store holds other bytes under this key",
                fix="find out who else writes into this bucket; delete the foreign object, then run again",
            )
        now = utc_now()
        proof = {"uploaded_at": now, "verified_at": now, "verified_by": how}
        content = {"key": wanted.key, "checksum": checksum, "md5": md5}
        row = facts | proof | content | {"deleted_at": None, "marked_at": None}
        with self._database.write() as connection:
            self._lease.hold(connection)
            insert_or_update(connection, object_table, [row])
        self.brought += 1

    def _make(self, to_make: dict[str, tuple[Photo, list[WantedObject]]], workers: Workers) -> dict[str, str]:
        failed: dict[str, str] = {}
        tasks = []
        for name, (photo, missing) in to_make.items():
            try:
                tasks.append(self._task(photo, [each for each in missing if each.recipe]))
            except PhotoError as error:
                failed[name] = str(error)
        with workers() as pool:
            for task, made in pool.process(tasks):
                photo = to_make[task.id][0]
                try:
                    if isinstance(made, PhotoError):
                        raise made
                    self._keep(photo, task, made)
                except PhotoError as error:
                    failed[task.id] = str(error)
                finally:
                    self._fetched(photo).unlink(missing_ok=True)
                self._watch.check()
        return failed

    def _keep(self, photo: Photo, task: "PhotoTask", made: Any) -> None:
        """Bring what was made, unless its source was changed while it was read."""
        if task.source == photo.location(self._config):
            require_unchanged(photo, self._config)
        recipe = self._naming.recipe(photo)
        with self._database.write() as connection:
            self._lease.hold(connection)
            remember_recipe(connection, recipe)
        for each in made.variants:
            key = self._naming.variant_key(photo, each.variant, each.format.extension)
            wanted = WantedObject(key, photo.sha256, recipe.digest, each.variant, each.format.value)
            facts = object_row(self._store.bucket, key, photo, recipe.digest, each)
            self._put(photo, wanted, each.path.read_bytes(), facts)
            each.path.unlink(missing_ok=True)

    def _task(self, photo: Photo, missing: Sequence[WantedObject]) -> "PhotoTask":
        from photo_pipeline.core.imaging.pool import PhotoTask

        recipe = self._naming.recipe(photo)
        specs = {spec.name: spec for spec in recipe.variants}
        if unknown := [each.variant for each in missing if each.recipe != recipe.digest]:
            cause = f"its {unknown[0]} was made under an earlier recipe, and the object is not in the bucket"
            raise PhotoError(photo.path, cause=cause, fix="repoint to the present recipe: --recipe")
        names = {(each.variant, ImageFormat(each.format)): each.key for each in missing}
        return PhotoTask(
            id=self._picture(photo),
            source=self._source(photo),
            recipe=recipe,
            wanted=tuple((specs[variant], image_format) for variant, image_format in names),
            staging={name: staged_path(self._config, key) for name, key in names.items()},
        )

    def _source(self, photo: Photo) -> Path:
        """Return a file with the photo's content: its own, or a copy of its original.

        Raises:
            PhotoChangedError: there is neither.
        """
        with suppress(PhotoChangedError):
            require_unchanged(photo, self._config)
            return photo.location(self._config)
        data = read_original(self._database, self._naming, self._store, photo)
        if data is None:
            cause = "the local file is gone or another one, and the store has no proven original of it"
            raise PhotoChangedError(photo.path, cause=cause, fix="put the file back, then run again")
        write_durably(self._fetched(photo), data)
        return self._fetched(photo)

    def _fetched(self, photo: Photo) -> Path:
        return self._config.state.staging_dir / "originals" / self._picture(photo)

    def _picture(self, photo: Photo) -> str:
        return f"{photo.sha256}-{self._naming.recipe_digest(photo)}"
