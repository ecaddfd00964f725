"""Links from Dagster's pages to the dashboard and the report, where the configuration says where they are."""

from urllib.parse import quote

import dagster as dg

from photo_pipeline.core.config import PipelineConfig

Links = dict[str, dg.UrlMetadataValue]


def page_links(config: PipelineConfig) -> Links:
    """Return metadata that links to the dashboard and to the report as it serves that, or nothing."""
    return dashboard_link(config) | _link("report", config, "/report")


def runbook(page: str) -> dict[str, dg.PathMetadataValue]:
    """Return an asset's metadata that names what to read when it fails, a page of `docs/`."""
    return {"when_something_is_wrong": dg.MetadataValue.path(f"docs/{page}")}


def dashboard_link(config: PipelineConfig) -> Links:
    """Return metadata that links to the dashboard, or nothing."""
    return _link("dashboard", config, "/")


def findings_link(config: PipelineConfig, reason: str, count: int) -> Links:
    """Return metadata that links to all photos of a reason, or nothing where there are none."""
    return _link(f"all_{reason}", config, f"/findings/{quote(reason, safe='')}") if count else {}


def report_link(config: PipelineConfig, otherwise: str) -> Links:
    """Return metadata that links to the report: by the dashboard if there is one, else to its file."""
    return {"report": dg.MetadataValue.url(config.dashboard.address("/report") or otherwise)}


def _link(name: str, config: PipelineConfig, path: str) -> Links:
    address = config.dashboard.address(path)
    return {name: dg.MetadataValue.url(address)} if address else {}
