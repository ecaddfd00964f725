"""The metrics as Prometheus and CloudWatch read them, from state tables of a real migration."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from photo_pipeline.core.alerts.watch import look
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.cost import ledger
from photo_pipeline.core.cost.units import Unit, month_of
from photo_pipeline.core.metrics import StateCollector, metrics_text
from photo_pipeline.core.metrics_emf import emf_lines
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated
from photo_pipeline_tests.core.provisioning.worlds import document

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana-dashboard.json"


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Database]:
    (tmp_path / "app.db").touch()
    with closing(Database.open(f"sqlite:///{tmp_path / 'app.db'}")) as database:
        yield database


def read(text: str) -> dict[str, float]:
    """Return every sample by name and labels, as a real parser reads the text."""
    return {
        f"{sample.name}{sorted(sample.labels.items()) if sample.labels else ''}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_migration_shows_in_every_family(make_site: MakeSite) -> None:
    site = make_site(photos=3, limits={"plan": "aws-legacy-free-tier"})
    migrated(site)
    site.execute("UPDATE pp_photo SET state = 'quarantined', error_type = 'corrupt' WHERE id = 1")
    with site.project() as project:
        with project.database.write() as connection:
            ledger.add(connection, month_of(utc_now()), {Unit.PUTS: 1_700})
        look(project.database, project.config)
        # The requests of opening the project are counted when it closes; the database is read at each look.
        samples = read(metrics_text(project.database, project.config))
    prefix = "photo_pipeline_"

    def value(name: str, **labels: str) -> float:
        return samples[f"{prefix}{name}{sorted(labels.items()) if labels else ''}"]

    assert value("up") == 1
    assert value("photos", **{"class": "matched", "state": "migrated"}) == 2
    assert value("photos", **{"class": "matched", "state": "quarantined"}) == 1
    assert value("photo_failures", error_type="corrupt") == 1
    assert value("photos_quarantined") == 1
    assert value("batches", state="completed") == 1
    assert value("batches", state="failed") == 0
    assert value("objects", format="avif") == 6
    ((stored,),) = site.execute("SELECT SUM(bytes) FROM pp_object WHERE format = 'avif'")
    assert value("object_bytes", format="avif") == stored
    ((puts,),) = site.execute("SELECT amount FROM pp_usage WHERE unit = 'puts'")
    assert value("usage", unit="puts") == puts
    assert value("limit", limit="puts") == 2_000
    assert value("limit_used_ratio", limit="puts") == puts / 2_000
    assert value("breaker", state="closed") + value("breaker", state="open") == 1
    assert value("leases_held", kind="batch") == 0
    assert value("control", control="running") == 1
    assert value("alerts_open", kind="cost_near_limit") == 1
    assert value("alerts_unsent", channel="log") == 0
    assert value("recent_photos") == 3
    assert value("last_inventory_timestamp_seconds") > 1_700_000_000


def test_before_the_first_migration_and_of_another_version_it_says_so(empty: Database) -> None:
    config = PipelineConfig.model_validate(document("shop-photos"))
    assert read(metrics_text(empty, config))["photo_pipeline_up"] == 0
    ensure_schema(empty)
    assert read(metrics_text(empty, config))["photo_pipeline_up"] == 1
    with empty.write() as connection:
        connection.exec_driver_sql("UPDATE pp_alembic_version SET version_num = '0001'")
    samples = read(metrics_text(empty, config))
    assert samples.keys() == {"photo_pipeline_up", next(name for name in samples if "build_info" in name)}


def test_a_look_reads_each_of_the_large_tables_once_and_objects_from_their_index(empty: Database) -> None:
    ensure_schema(empty)
    config = PipelineConfig.model_validate(document("shop-photos", limits={"plan": "aws-legacy-free-tier"}))
    asked: list[str] = []
    sa.event.listen(empty.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    metrics_text(empty, config)
    (of_objects,) = [each for each in asked if "FROM pp_object" in each]
    # Photos by batch are answered by an index; the other look is the one at all of them.
    assert len([each for each in asked if "FROM pp_photo" in each and "batch" not in each]) == 1
    with empty.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {of_objects}").all()
    assert [row.detail for row in plan] == ["SCAN pp_object USING INDEX ix_pp_object_format_bytes"]


def queries() -> list[str]:
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            found.extend(value[key] for key in ("expr",) if key in value)
            for each in value.values():
                walk(each)
        elif isinstance(value, list):
            for each in value:
                walk(each)

    walk(json.loads(DASHBOARD.read_text(encoding="utf-8")))
    return found


# What a query may name beside metrics and their labels.
PROMQL = {"sum", "max", "by", "or", "vector", "deriv", "instance"}


def test_every_query_of_the_dashboard_names_existing_metrics_and_labels(empty: Database) -> None:
    ensure_schema(empty)
    collector = StateCollector(empty, PipelineConfig.model_validate(document("shop-photos")))
    labels = {name for family in collector.collect() for name in family._labelnames}
    families = {family.name for family in collector.collect()}
    # Each is in the text, also without a sample.
    text = metrics_text(empty, PipelineConfig.model_validate(document("shop-photos")))
    assert {family.name for family in text_string_to_metric_families(text)} == families
    assert len(queries()) > 20
    for query in queries():
        names = set(re.findall(r"[A-Za-z_]\w*", re.sub(r'"[^"]*"|\[\w+\]', "", query)))
        named = {name for name in names if name.startswith("photo_pipeline_")}
        assert named, query
        assert named <= families, query
        assert names - named <= PROMQL | labels, query
    # And the other way round: nothing is measured that nobody sees.
    shown = set(re.findall(r"photo_pipeline_\w+", " ".join(queries())))
    unseen = {"up", "build_info", "control", "last_inventory_timestamp_seconds", "limit", "limits_overridden"}
    assert families - shown == {f"photo_pipeline_{name}" for name in unseen | {"recent_photos"}}


UNITS = {"Seconds", "Bytes", "Count", "None"}  # of those that CloudWatch knows


def test_each_emf_line_has_the_structure_that_aws_specifies(empty: Database) -> None:
    ensure_schema(empty)
    with empty.write() as connection:
        ledger.add(connection, month_of(utc_now()), {Unit.PUTS: 1_700})
    config = PipelineConfig.model_validate(document("shop-photos", limits={"plan": "aws-legacy-free-tier"}))
    at = datetime(2026, 11, 20, tzinfo=UTC)
    lines, text = list(emf_lines(empty, config, now=at)), metrics_text(empty, config)
    assert len(lines) > 20
    told: dict[str, float] = {}
    for line in lines:
        assert "\n" not in line
        line_document = json.loads(line)
        assert line_document["_aws"]["Timestamp"] == at.timestamp() * 1000
        (about,) = line_document["_aws"]["CloudWatchMetrics"]
        assert set(about) == {"Namespace", "Dimensions", "Metrics"}
        assert re.fullmatch(r"[\w./#:-]{1,255}", about["Namespace"])
        (dimensions,) = about["Dimensions"]
        assert 1 <= len(dimensions) <= 30
        assert all(
            isinstance(line_document[name], str) and 1 <= len(line_document[name]) <= 1024
            for name in dimensions
        )
        assert 1 <= len(about["Metrics"]) <= 100
        names = [each["Name"] for each in about["Metrics"]]
        assert {each["Unit"] for each in about["Metrics"]} <= UNITS
        assert all(isinstance(line_document[name], int | float) for name in names)
        assert line_document.keys() == {"_aws", *dimensions, *names}
        labels = {name: line_document[name] for name in dimensions if name != "bucket"}
        told |= {f"{name}{sorted(labels.items()) if labels else ''}": line_document[name] for name in names}
    assert told == read(text)
