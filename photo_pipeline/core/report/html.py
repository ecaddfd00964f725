"""Turns the report's values into one self-contained HTML page: no network, no external file.

Every value may come from a hostile row or file name: jinja2 escapes all of them, nothing is marked safe but
the page's own style and script, and a content security policy in the page allows nothing else.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

import jinja2

from photo_pipeline.core.catalog.tables import BatchState, PhotoClass, PhotoState
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.migration.state import BatchStatus
from photo_pipeline.core.report.data import ReportData
from photo_pipeline.core.report.pictures import Comparison
from photo_pipeline.core.report.quality_pictures import QualityPair
from photo_pipeline.core.report.sizes import VariantFiles

MAX_LISTED_BATCHES = 200

_TEMPLATES = Path(__file__).with_name("templates")
_SIZE_UNITS = ("bytes", "KB", "MB", "GB", "TB", "PB")

CLASS_LABELS: Mapping[str, tuple[str, str]] = {
    PhotoClass.MATCHED: ("Matched", "the row's file is there and is a photo"),
    PhotoClass.FILE_MISSING: ("File missing", "a row names a file that is not there"),
    PhotoClass.FILE_UNREFERENCED: ("Unreferenced file", "no row names the file"),
    PhotoClass.UNSUPPORTED_FORMAT: ("Unsupported", "the content is no photo that can be decoded"),
    PhotoClass.TOO_LARGE: ("Too large", "over the configured size limit"),
    PhotoClass.EMPTY: ("Empty", "the file has 0 bytes"),
    PhotoClass.UNREADABLE: ("Unreadable", "permissions or the disk refuse"),
    PhotoClass.OUTSIDE_ROOT: ("Outside root", "the row or a link leads out of the roots"),
    PhotoClass.ALREADY_MIGRATED: ("Already migrated", "the row carries one of our URLs"),
}
STATE_LABELS: Mapping[str, tuple[str, str]] = {
    PhotoState.MIGRATED: ("Migrated", "the row shows the CDN"),
    PhotoState.STORED: ("Stored", "its objects are proven; its source rewrites no row"),
    PhotoState.PENDING: ("Pending", "not begun"),
    PhotoState.PROCESSED: ("Processed", "its variants are made"),
    PhotoState.UPLOADED: ("Uploaded", "its objects are proven, the row is unchanged"),
    PhotoState.QUARANTINED: ("Quarantined", "set aside with a reason"),
    PhotoState.CONFLICT: ("Conflict", "the application changed the row meanwhile"),
    PhotoState.ROLLED_BACK: ("Rolled back", "the row has its local value again"),
    PhotoState.FOUND: ("Not migratable", "any class but matched"),
    PhotoState.SUPERSEDED: ("Superseded", "the row is gone or names another file now"),
}
_BATCH_ORDER = (BatchState.FAILED, BatchState.ROLLING_BACK, BatchState.RUNNING, BatchState.PAUSED)


def render(
    data: ReportData,
    config: PipelineConfig,
    comparisons: tuple[Comparison, ...] = (),
    worst: tuple[QualityPair, ...] = (),
) -> str:
    """Return the report as one HTML page.

    Args:
        data: What the report says.
        config: Names the bucket and the CDN; only links below the CDN's URL become links.
        comparisons: Before/after pictures to show.
        worst: The worst measured variants beside their photos.
    """
    script = (_TEMPLATES / "slider.js").read_text(encoding="utf-8")
    return (
        _environment()
        .get_template("migration_report.html.j2")
        .render(
            data=data,
            config=config,
            comparisons=comparisons,
            worst=worst,
            batches=_listed(data.batches),
            batch_states=_batch_states(data.batches),
            class_labels=CLASS_LABELS,
            state_labels=STATE_LABELS,
            script=script,
            script_hash=_digest(script),
        )
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "size": size,
        "number": lambda value: f"{value:,}",
        "percent": percent,
        "when": when,
        "row_key": row_key,
        "format_name": lambda name: "WebP" if name == "webp" else str(name).upper(),
        "sentence": lambda text: str(text)[:1].upper() + str(text)[1:],
        "duration": duration,
        "words": lambda value: str(value).replace("_", " "),
        "histogram": histogram,
        "timeline": timeline,
    }
    return environment


def _listed(batches: tuple[BatchStatus, ...]) -> list[BatchStatus]:
    """Return the batches to show: those that need a look first, else in running order."""
    ranked = sorted(batches, key=lambda batch: batch.state not in _BATCH_ORDER)
    return ranked[:MAX_LISTED_BATCHES]


def _batch_states(batches: tuple[BatchStatus, ...]) -> dict[str, int]:
    states = [batch.state for batch in batches]
    return {str(state): states.count(state) for state in BatchState if state in states}


def size(value: float) -> str:
    """Return bytes as people read them, in binary multiples ("1.4 MB"), as the configuration means them."""
    unit = 0
    while abs(value) >= 1024 and unit < len(_SIZE_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    shown = f"{value:,.0f}" if unit == 0 or abs(value) >= 100 else f"{value:.1f}"
    return f"{shown} {_SIZE_UNITS[unit]}"


def percent(share: float) -> str:
    """Return a share as a percentage; never "100 %" or "0 %" for what is only almost so."""
    value = share * 100
    near_edge = 0 < abs(value) < 1 or 99 < value < 100
    return f"{value:.1f} %" if near_edge else f"{value:.0f} %"


def when(instant: datetime | None) -> str:
    """Return an instant as text, in UTC."""
    return f"{instant:%-d %b %Y, %H:%M:%S} UTC" if instant else "not yet"


def duration(start: datetime | None, end: datetime | None) -> str:
    """Return the time between two instants ("2 h 5 min", "33 s"); "not yet" if either is unknown."""
    if start is None or end is None:
        return "not yet"
    seconds = max(0, round((end - start).total_seconds()))
    if seconds < 60:
        return f"{seconds} s"
    minutes = seconds // 60
    return f"{minutes // 60:,} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds % 60} s"


def row_key(key: str | None) -> str:
    """Return a row's key as people write it: its values, without the JSON around them."""
    if key is None:
        return ""
    try:
        values = json.loads(key)
    except ValueError:
        return key
    return ", ".join(str(value) for value in values) if isinstance(values, list) else key


def histogram(files: VariantFiles) -> list[tuple[int, float, int]]:
    """Return (first quality, height 0 to 1, files) of each bin of five quality steps, from 20 to 85."""
    bins = dict.fromkeys(range(20, 90, 5), 0)
    for quality, count in files.qualities.items():
        bins[min(85, max(20, quality // 5 * 5))] += count
    highest = max(bins.values(), default=0) or 1
    return [(start, count / highest, count) for start, count in bins.items()]


def timeline(spans: Sequence[tuple[str, datetime, datetime]]) -> list[tuple[str, float, float]]:
    """Return (name, left edge, width) of each span, as shares of the whole time."""
    start, end = min(first for _, first, _ in spans), max(last for *_, last in spans)
    whole = (end - start).total_seconds() or 1.0
    return [
        (name, (first - start).total_seconds() / whole, (last - first).total_seconds() / whole)
        for name, first, last in spans
    ]
