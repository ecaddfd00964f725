"""Links from Dagster's pages to the dashboard, where the configuration says where that is."""

from urllib.parse import quote

import dagster as dg

from photo_pipeline.core.config import PipelineConfig


def dashboard_link(config: PipelineConfig) -> dict[str, dg.UrlMetadataValue]:
    """Return metadata that links to the dashboard, or nothing."""
    return _link("dashboard", config, "/")


def findings_link(config: PipelineConfig, reason: str, count: int) -> dict[str, dg.UrlMetadataValue]:
    """Return metadata that links to all photos of a reason, or nothing where there are none."""
    return _link(f"all_{reason}", config, f"/findings/{quote(reason, safe='')}") if count else {}


def report_link(config: PipelineConfig, otherwise: str) -> dict[str, dg.UrlMetadataValue]:
    """Return metadata that links to the report: by the dashboard if there is one, else to its file."""
    return {"report": dg.MetadataValue.url(config.dashboard.address("/report") or otherwise)}


def _link(name: str, config: PipelineConfig, path: str) -> dict[str, dg.UrlMetadataValue]:
    address = config.dashboard.address(path)
    return {name: dg.MetadataValue.url(address)} if address else {}
