"""How results look in the Dagster UI: tables and before/after thumbnails as metadata values."""

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import dagster as dg
from PIL import Image

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost.budget import Budget
from photo_pipeline.core.cost.hooks import s3_unit
from photo_pipeline.core.cost.units import Unit
from photo_pipeline.core.errors import ErrorClass, PhotoError
from photo_pipeline.core.imaging.decode import decode, fitting
from photo_pipeline.core.imaging.encode import flattened
from photo_pipeline.core.imaging.header import read_header
from photo_pipeline.core.imaging.recipe import ImageFormat
from photo_pipeline.core.migration.measured_quality import MeasuredQuality
from photo_pipeline.core.migration.process import MadeSample
from photo_pipeline.core.migration.row_rewrite import RowChange
from photo_pipeline.core.report.data import ReportData
from photo_pipeline.core.retry_rules import RULES

# The text is stored whole in the event log: at most 12 pictures of at most 8 KB (facts/dagster.md).
MAX_PICTURES = 6
_THUMB_PX = 150
_MAX_PICTURE_BYTES = 8_192
# Decoded in the run's own process, without a worker's memory limit.
_MAX_PIXELS = 50_000_000
_WHITE = (255, 255, 255)


def count_table(counts: Mapping[str, int], *, name: str) -> dg.TableMetadataValue:
    """Return counts as a two-column table with a total."""
    records = [dg.TableRecord({name: key, "count": value}) for key, value in counts.items()]
    records.append(dg.TableRecord({name: "total", "count": sum(counts.values())}))
    return dg.MetadataValue.table(
        records,
        schema=dg.TableSchema([dg.TableColumn(name, "string"), dg.TableColumn("count", "int")]),
    )


def requests_usd(requests: Mapping[str, int], config: PipelineConfig) -> float:
    """Return what requests to S3, counted by HTTP method or LIST, cost at list price, in dollars."""
    counts = Counter[Unit]()
    for kind, count in requests.items():
        listing = kind == "LIST"
        counts[s3_unit("ListObjectsV2" if listing else "", "GET" if listing else kind)] += count
    return Budget.of(config).prices.requests_usd(puts=counts[Unit.PUTS], gets=counts[Unit.GETS])


def failure_table(counts: Mapping[str, int]) -> dg.TableMetadataValue:
    """Return quarantined photos by the class of their error, with the rule that it was tried again by."""
    names = ("class", "photos", "rule")
    records = [
        dg.TableRecord({"class": str(kind), "photos": count, "rule": RULES[ErrorClass(kind)].sentence})
        for kind, count in sorted(counts.items())
    ]
    columns = [dg.TableColumn(name, "int" if name == "photos" else "string") for name in names]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns))


def change_table(changes: Sequence[RowChange]) -> dg.TableMetadataValue:
    """Return sample rewrites, one row each."""
    names = ("source", "row_key", "column", "before", "after")
    return dg.MetadataValue.table(
        [dg.TableRecord({name: str(getattr(change, name)) for name in names}) for change in changes],
        schema=dg.TableSchema([dg.TableColumn(name, "string") for name in names]),
    )


def finding_table(rows: Iterable[tuple[str, str]], *, first: str, second: str) -> dg.TableMetadataValue:
    """Return (what, why) pairs as a table; at most 50."""
    records = [dg.TableRecord({first: a, second: b}) for a, b in list(rows)[:50]]
    return dg.MetadataValue.table(
        records, schema=dg.TableSchema([dg.TableColumn(first, "string"), dg.TableColumn(second, "string")])
    )


def before_after(samples: Sequence[MadeSample]) -> dg.MarkdownMetadataValue:
    """Return a table of inline thumbnails: the local photo, the variant made of it, and both sizes."""
    lines = ["| photo | before | after | bytes |", "| --- | --- | --- | --- |"]
    for sample in samples[:MAX_PICTURES]:
        name = sample.name.replace("|", "\\|").replace("[", "(").replace("]", ")")
        saved = f"{sample.source_bytes:,} → {sample.made_bytes:,}"
        lines.append(f"| {name} | {_picture(sample.source)} | {_picture(sample.thumb)} | {saved} |")
    return dg.MetadataValue.md("\n".join(lines) if len(lines) > 2 else "No new variants in this run.")


def quality_facts(quality: MeasuredQuality) -> dict[str, int | float | dg.TableMetadataValue]:
    """Return what is known of the sample's visual quality; scores only where there are any, for plots."""
    facts: dict[str, int | float | dg.TableMetadataValue] = {
        "quality_measured": quality.measured,
        "quality_reused": quality.reused,
    }
    for name, score in (("quality_mean", quality.mean), ("quality_worst", quality.worst)):
        if score is not None:
            facts[name] = round(score, 2)
    if quality.not_measured:
        rows = quality.not_measured.items()
        facts["quality_not_measured"] = finding_table(rows, first="variant", second="reason")
    return facts


def report_facts(data: ReportData) -> dict[str, str | int | float | dg.TableMetadataValue]:
    """Return the report's verdict, its main numbers (plotted over time), and its findings with fixes."""
    findings = [
        dg.TableRecord({"what": group.title, "photos": group.count, "what to do": group.fix})
        for group in data.findings
    ]
    names = {"what": "string", "photos": "int", "what to do": "string"}
    facts: dict[str, str | int | float | dg.TableMetadataValue] = {
        "verdict": data.verdict.sentence,
        "migrated": data.migrated,
        "waiting": data.waiting,
        "findings_total": data.findings_total,
        "findings": dg.MetadataValue.table(
            findings, schema=dg.TableSchema([dg.TableColumn(*column) for column in names.items()])
        ),
        "requests_usd": round(data.costs.requests_usd, 6),
        "storage_usd_a_month": round(data.costs.storage_usd_a_month, 6),
    }
    if size := data.sizes.headline:
        facts["bytes_saved"] = size.before_bytes - size.after_bytes
    return facts


def _picture(path: Path) -> str:
    """Return an inline picture, or a dash where the file is gone or cannot be shown."""
    try:
        info = read_header(path, max_pixels=_MAX_PIXELS)
        shown = decode(path, info, size=fitting(info, _THUMB_PX / max(info.width, info.height)))
    except (PhotoError, OSError):
        return "-"
    # On white, as for visitors with JPEG: what is below transparent pixels is often black.
    opaque = flattened(shown, ImageFormat.JPEG, _WHITE).convert("RGB")
    text = base64.b64encode(_small_webp(opaque)).decode()
    return f"![](data:image/webp;base64,{text})"


def _small_webp(shown: Image.Image) -> bytes:
    """Return the picture as WebP; the last step fits even pure noise (4.2 KB)."""
    for side_px, quality in ((_THUMB_PX, 60), (_THUMB_PX, 40), (_THUMB_PX, 20), (100, 20)):
        shown.thumbnail((side_px, side_px))
        buffer = io.BytesIO()
        shown.save(buffer, "WEBP", quality=quality, exif=b"", icc_profile=b"")
        if buffer.tell() <= _MAX_PICTURE_BYTES:
            break
    return buffer.getvalue()
