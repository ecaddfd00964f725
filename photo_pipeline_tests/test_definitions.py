"""The definitions as Dagster and its operators see them: loadable anywhere, complete, described."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from photo_pipeline import definitions
from photo_pipeline.assets.db_url_rewrites import RewriteConfig
from photo_pipeline.definitions import defs

PARTITIONED = {"processed_variants", "s3_objects", "db_url_rewrites", "validation_report"}
REPOSITORY = Path(__file__).resolve().parents[1]
ASSETS = PARTITIONED | {"local_inventory", "checksum_catalog", "migration_report"}
JOBS = {
    "inventory": {"local_inventory", "checksum_catalog"},
    "migrate": PARTITIONED,
    "pause": set(),
    "resume": set(),
    "abort": set(),
    "rollback": {"db_url_rewrites"},
    "report": {"migration_report"},
    "repoint": set(),
    "revalidate": set(),
    "rehearse_rollback": set(),
    "orphan_cleanup": set(),
    "local_cleanup": set(),
    "delete_photos": set(),
    "provision_storage": set(),
    "reconcile_costs": set(),
}
CHECKS = {
    "every_reference_and_file_has_one_class": "local_inventory",
    "every_matched_photo_is_batched_or_explained": "checksum_catalog",
    "every_photo_is_uploaded_or_explained": "s3_objects",
    "visual_quality_is_above_the_floor": "processed_variants",
    "no_dangling_url": "db_url_rewrites",
    "every_photo_is_delivered_intact": "validation_report",
}

# An opinion about a picture stops nobody.
WARNINGS = {"visual_quality_is_above_the_floor"}

LOADING = """
import json, socket, sys

def refuse(*_, **__):
    raise AssertionError("loading the definitions used the network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = socket.create_connection = refuse
from photo_pipeline.definitions import defs
import dagster as dg
dg.Definitions.validate_loadable(defs)
print(json.dumps({"jobs": [job.name for job in defs.jobs], "modules": sorted(sys.modules)}))
"""


def test_they_load_without_environment_configuration_and_network(tmp_path: Path) -> None:
    loaded = _load(tmp_path)
    assert set(loaded["jobs"]) == set(JOBS)
    assert list(tmp_path.iterdir()) == []
    # What has been imported by then: neither the demo nor its servers.
    modules = set(loaded["modules"])
    assert not modules & {"moto", "flask", "werkzeug", "photo_pipeline.demo", "pytest", "dagster_aws"}


def _load(folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", LOADING], env={}, cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def test_the_definitions_are_a_table_of_contents() -> None:
    module = Path(definitions.__file__).read_text(encoding="utf-8")
    assert len(module.splitlines()) <= 60


def test_the_assets_have_their_stable_names() -> None:
    assert {key.to_user_string() for key in defs.resolve_all_asset_keys()} == ASSETS


@pytest.mark.parametrize("job", JOBS)
def test_a_job_runs_its_own_assets_and_no_others(job: str) -> None:
    selected = defs.resolve_job_def(job).asset_layer.selected_asset_keys
    assert {key.to_user_string() for key in selected} == JOBS[job]


def test_what_only_watches_runs_by_itself_and_what_launches_work_is_off_until_it_is_switched_on() -> None:
    sensors = {sensor.name: sensor for sensor in defs.sensors or []}
    running, stopped = dg.DefaultSensorStatus.RUNNING, dg.DefaultSensorStatus.STOPPED
    assert {name: sensor.default_status for name, sensor in sensors.items()} == {
        "alerts": running,
        "cost_guard": running,
        "lost_retries": running,
        "migration_driver": stopped,
        "run_failures": running,
    }


def test_the_schedules_are_off_until_they_are_switched_on() -> None:
    schedules = {schedule.name: schedule for schedule in defs.schedules or []}
    assert set(schedules) == {"revalidation", "orphan_sweep", "reconcile_costs"}
    assert all(
        each.default_status is dg.DefaultScheduleStatus.STOPPED  # type: ignore[union-attr]
        for each in schedules.values()
    )


@pytest.mark.parametrize("automation", [*(defs.sensors or []), *(defs.schedules or [])], ids=lambda a: a.name)
def test_every_sensor_and_schedule_says_what_it_does(automation: Any) -> None:
    """Unlike for assets, Dagster does not take their docstrings."""
    assert automation.description


@pytest.mark.parametrize("job", JOBS)
def test_a_job_can_be_launched_without_typing_a_configuration(job: str) -> None:
    assert dg.validate_run_config(defs.resolve_job_def(job), {})


def test_there_are_no_other_jobs() -> None:
    assert {job.name for job in defs.jobs or []} == set(JOBS)


def test_exactly_the_batch_assets_are_partitioned_by_photo_batches() -> None:
    graph = defs.resolve_asset_graph()
    found = {
        key.to_user_string(): graph.get(key).partitions_def.name  # type: ignore[union-attr]
        for key in defs.resolve_all_asset_keys()
        if graph.get(key).partitions_def
    }
    assert found == dict.fromkeys(PARTITIONED, "photo_batches")


@pytest.mark.parametrize("job", ["migrate", "rollback"])
def test_batch_jobs_select_partitioned_assets_only(job: str) -> None:
    """Unpartitioned ones among them would run again in every partition's run."""
    definition = defs.resolve_job_def(job)
    graph = defs.resolve_asset_graph()
    assert all(graph.get(key).partitions_def for key in definition.asset_layer.selected_asset_keys)
    assert definition.partitions_def is not None
    assert definition.partitions_def.name == "photo_batches"  # type: ignore[attr-defined]


def test_only_uploads_are_in_the_upload_pool() -> None:
    pools = {name: op.pool for name, op in _ops().items()}
    assert {name: pool for name, pool in pools.items() if pool} == {"s3_objects": "s3_upload"}


def test_the_checks_guard_their_assets_and_all_but_warnings_block() -> None:
    graph = defs.resolve_asset_graph()
    keys = {key.name: key.asset_key.to_user_string() for key in graph.asset_check_keys}
    assert keys == CHECKS
    for key in graph.asset_check_keys:
        spec = graph.get_check_spec(key)
        assert spec.blocking == (key.name not in WARNINGS), key
        assert spec.description, key
        assert (spec.partitions_def is not None) == (keys[key.name] in PARTITIONED), key


def test_a_rollback_needs_no_configuration_and_cannot_go_forward_by_itself() -> None:
    partitioned = defs.resolve_job_def("rollback").partitioned_config
    assert partitioned is not None
    config = partitioned.get_run_config_for_partition_key("batch-000001")
    assert config["ops"] == {"db_url_rewrites": {"config": {"target": "local"}}}
    assert RewriteConfig().target == "cdn"


@pytest.mark.parametrize("target", ["cdn", "local"])
def test_both_targets_validate_by_their_plain_names(target: str) -> None:
    config = {"ops": {"db_url_rewrites": {"config": {"target": target}}}}
    assert dg.validate_run_config(defs.resolve_job_def("migrate"), config)


def test_another_target_is_refused_at_launch() -> None:
    config = {"ops": {"db_url_rewrites": {"config": {"target": "s3"}}}}
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(defs.resolve_job_def("migrate"), config)


@pytest.mark.parametrize("asset", sorted(ASSETS - {"processed_variants", "migration_report"}))
def test_an_asset_with_a_table_behind_it_describes_its_columns(asset: str) -> None:
    metadata = defs.resolve_asset_graph().get(dg.AssetKey(asset)).metadata
    assert metadata["dagster/table_name"].startswith("pp_")
    columns = metadata["dagster/column_schema"].columns
    assert columns
    assert all(column.description and column.type for column in columns)


@pytest.mark.parametrize("asset", sorted(ASSETS))
def test_every_asset_says_what_it_is(asset: str) -> None:
    spec = defs.resolve_asset_graph().get(dg.AssetKey(asset))
    assert spec.description
    assert spec.group_name != "default"
    assert spec.kinds
    assert spec.owners
    assert (REPOSITORY / spec.metadata["when_something_is_wrong"].path).is_file()


@pytest.mark.parametrize("job", JOBS)
def test_every_job_says_what_it_does(job: str) -> None:
    assert defs.resolve_job_def(job).description


def test_every_config_field_says_what_it_means() -> None:
    fields = {
        f"{name}.{path}": description
        for job in JOBS
        for name, op in _ops_of(job)
        for path, description in _described(op.config_schema.config_type)
    }
    assert {"db_url_rewrites.target", "pause_migration.reason", "delete_planned_photos.photos"} <= set(fields)
    assert [path for path, description in fields.items() if not description] == []


def test_every_resource_and_each_of_its_settings_says_what_it_means() -> None:
    for name, resource in (defs.resources or {}).items():
        assert type(resource).__doc__, name
        for field, info in type(resource).model_fields.items():
            is_resource = field in resource.nested_resources
            assert is_resource or info.description, f"{name}.{field}"


def _ops() -> dict[str, dg.OpDefinition]:
    found = {}
    for job in JOBS:
        found |= {name: op for name, op in _ops_of(job) if name in ASSETS}
    assert set(found) == ASSETS
    return found


def _ops_of(job: str) -> list[tuple[str, dg.OpDefinition]]:
    nodes = defs.resolve_job_def(job).nodes
    return [(node.name, node.definition) for node in nodes if isinstance(node.definition, dg.OpDefinition)]


def _described(config_type: Any, path: str = "") -> Iterator[tuple[str, str | None]]:
    for name, field in getattr(config_type, "fields", {}).items():
        yield f"{path}{name}", field.description
        yield from _described(field.config_type, f"{path}{name}.")
