"""Checks of this machine: folders, disk, image formats, Python and its packages, Dagster's home."""

import importlib.util
import io
import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.doctor.finding import Check, Finding, ok, problem, skipped
from photo_pipeline.core.doctor.patient import Patient
from photo_pipeline.core.imaging.recipe import ImageFormat

_GROUP = "machine"
_OLDEST_PYTHON, _FIRST_UNTESTED_PYTHON = (3, 11), (3, 14)
# A variant without a byte target: AVIF, WebP and JPEG of 1600 px together are rarely larger.
_GUESSED_VARIANT_BYTES = 500_000
# Reports, backups and what other programs on the disk need meanwhile.
_SPARE_BYTES = 500 * 1024**2
_PACKAGES = ("dagster", "dagster-webserver", "boto3", "obstore", "pillow", "sqlalchemy")
_POOL_FIX = "take the file dagster.yaml that comes with photo_pipeline, or copy its settings"


def roots(patient: Patient) -> Iterator[Finding]:
    """Every root exists and can be listed."""
    for root in patient.config.roots:
        if not root.dir.is_dir():
            what = "it is a file" if root.dir.exists() else "there is no such folder"
            yield problem(
                f"{root.dir}: {what}",
                fix="correct roots[].dir, or mount the disk that it is on",
                subject=root.name,
            )
            continue
        try:
            with os.scandir(root.dir) as entries:
                is_empty = next(entries, None) is None
        except OSError as error:
            yield problem(
                f"{root.dir} cannot be listed ({error.strerror})",
                fix="let this account read and enter the folder (chmod u+rx, or run as its owner)",
                subject=root.name,
            )
            continue
        yield ok(f"{root.dir}{' (it is empty)' if is_empty else ''}", subject=root.name)


def folders(patient: Patient) -> Iterator[Finding]:
    """Working files can be written."""
    state = patient.config.state
    for name, folder in (
        ("staging_dir", state.staging_dir),
        ("report_dir", state.report_dir),
        ("backup_dir", state.backup_dir),
    ):
        present = _present(folder)
        if not present.is_dir():
            yield problem(f"{present} is no folder", fix=f"correct state.{name}", subject=name)
        elif os.access(present, os.W_OK | os.X_OK):
            yield ok(str(folder), subject=name)
        else:
            yield problem(
                f"{present} cannot be written",
                fix=f"let this account write there, or set state.{name} to another folder",
                subject=name,
            )


def disk(patient: Patient) -> Iterator[Finding]:
    """There is room for a batch's variants."""
    folder = _present(patient.config.state.staging_dir)
    needed, free = _staging_bytes(patient.config), shutil.disk_usage(folder).free
    text = f"{_megabytes(free)} free at {folder}, {_megabytes(needed)} wanted for a batch"
    if free < needed:
        yield problem(text, fix="make room, set state.staging_dir to a larger disk, or lower batches.size")
    else:
        yield ok(text)


def _present(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _staging_bytes(config: PipelineConfig) -> int:
    presets = {config.source(source.name).preset for source in config.sources}
    sizes = [
        sum((spec.max_bytes or _GUESSED_VARIANT_BYTES) for spec in config.variants[name].values())
        for name in presets
    ]
    return config.batches.size * len(ImageFormat) * max(sizes) + _SPARE_BYTES


def _megabytes(size: int) -> str:
    return f"{size / 1024**2:,.0f} MB"


def image_formats(_patient: Patient) -> Iterator[Finding]:
    """Every format that variants are made in can be written here."""
    for each in ImageFormat:
        try:
            Image.new("RGB", (16, 16)).save(io.BytesIO(), format=each.name)
        except (OSError, KeyError, ValueError) as error:
            yield problem(
                f"it cannot be written ({error})",
                fix="install the locked packages again (pip install --require-hashes -r requirements.lock)",
                subject=each.value,
            )
        else:
            yield ok("can be written", subject=each.value)
    if importlib.util.find_spec("pillow_heif") is None:
        yield skipped(
            "pillow-heif is not installed: HEIC photos will be set aside as unsupported", subject="heic"
        )
    else:
        yield ok("can be read", subject="heic")


def python(_patient: Patient) -> Iterator[Finding]:
    """Python is one that is supported."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    if _OLDEST_PYTHON <= sys.version_info[:2] < _FIRST_UNTESTED_PYTHON:
        yield ok(found)
    else:
        yield problem(f"{found} is not supported", fix="use Python 3.11, 3.12 or 3.13")


def packages(_patient: Patient) -> Iterator[Finding]:
    """The packages are there, and Dagster is the release that the project is made for."""
    try:
        found = {name: version(name) for name in _PACKAGES}
    except PackageNotFoundError as error:
        yield problem(
            f"{error.name} is not installed", fix="pip install --require-hashes -r requirements.lock"
        )
        return
    text = ", ".join(f"{name} {number}" for name, number in found.items())
    if found["dagster"].startswith("1.13."):
        yield ok(text)
    else:
        yield problem(
            f"dagster {found['dagster']} is not tested with this", fix='pip install "dagster>=1.13,<1.14"'
        )


def dagster_home(_patient: Patient) -> Iterator[Finding]:
    """Dagster keeps its runs, and can hold uploads back."""
    home = os.environ.get("DAGSTER_HOME")
    if not home:
        yield skipped("$DAGSTER_HOME is not set: only Dagster needs it, `photo-pipeline` does not")
        return
    settings = Path(home) / "dagster.yaml"
    if not Path(home).is_absolute():
        yield problem(f"$DAGSTER_HOME is {home!r}", fix="set it to an absolute path")
    elif not settings.is_file():
        yield problem(f"there is no {settings}: every run would be forgotten", fix=_POOL_FIX)
    else:
        yield _pools(settings)


def _pools(settings: Path) -> Finding:
    """Judge what the file says of concurrency pools: closing `s3_upload` must hold back queued runs."""
    try:
        document: Any = yaml.safe_load(settings.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return problem(f"{settings} cannot be read ({' '.join(str(error).split())[:120]})", fix="mend it")
    concurrency = document.get("concurrency") if isinstance(document, dict) else None
    pools = concurrency.get("pools") if isinstance(concurrency, dict) else None
    if not isinstance(pools, dict) or pools.get("granularity") != "run":
        return problem(
            f"{settings} does not set concurrency.pools.granularity to run: a pause could not hold back "
            "queued uploads of pool s3_upload",
            fix=_POOL_FIX,
        )
    return ok(f"{settings}, pools by run")


CHECKS = (
    Check("roots", _GROUP, roots, ("configuration",)),
    Check("working folders", _GROUP, folders, ("configuration",)),
    Check("disk space", _GROUP, disk, ("working folders",)),
    Check("image formats", _GROUP, image_formats),
    Check("Python", _GROUP, python),
    Check("packages", _GROUP, packages),
    Check("Dagster home", _GROUP, dagster_home),
)
