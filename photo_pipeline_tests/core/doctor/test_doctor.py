"""The doctor on an installation that lacks nothing, and with each thing broken in turn.

Broken, exactly that check turns to a problem (or to down), and its fix names the thing. What hangs on it is
skipped. The store and the CDN are the embedded ones, behind proxies that break them.
"""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
import sqlalchemy as sa
from moto.server import ThreadedMotoServer
from PIL import Image
from typer.testing import CliRunner

from photo_pipeline.cli import app
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.doctor import database_checks, machine_checks, store_checks
from photo_pipeline.core.doctor.examine import CHECKS, Examined, examine
from photo_pipeline.core.doctor.finding import Status
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.cdn_proxy import Answered, Asked, CdnProxy
from photo_pipeline_tests.conftest import ACCESS_KEY, SECRET_KEY, MakeSite
from photo_pipeline_tests.core.doctor.conftest import AUTO, BUCKET
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy, Rule
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import Site

NOBODY = "http://127.0.0.1:9"


def examined(*groups: str) -> dict[str, Examined]:
    """Examine the site (only the groups, which need the configuration and nothing of each other)."""
    wanted = [check for check in CHECKS if not groups or check.group in ("configuration", *groups)]
    return {each.check.name: each for each in examine(checks=wanted)}


def wrong(seen: dict[str, Examined]) -> dict[str, Status]:
    return {name: each.status for name, each in seen.items() if each.status in (Status.PROBLEM, Status.DOWN)}


def to_do(seen: dict[str, Examined], check: str) -> str:
    return " | ".join(f"{each.detail} -> {each.fix}" for each in seen[check].findings if each.fix)


def left_behind(site: Site, servers: RunningServers) -> list[Any]:
    client = boto3.client("s3", endpoint_url=servers.s3_url, region_name=servers.region)
    answer = client.list_object_versions(Bucket=BUCKET)
    every = [*answer.get("Versions", []), *answer.get("DeleteMarkers", [])]
    return [each["Key"] for each in every if site.name in each["Key"]]


def test_nothing_is_wrong_with_a_site_that_lacks_nothing_and_nothing_is_left_behind(
    healthy: Site, servers: RunningServers
) -> None:
    before = healthy.dump()
    seen = examined()
    assert wrong(seen) == {}
    assert {name for name, each in seen.items() if each.status is Status.SKIPPED} == {
        "distribution",
        "Dagster home",
    }
    assert left_behind(healthy, servers) == []
    assert healthy.dump() == before
    assert sa.inspect(healthy.engine()).get_table_names() == ["item_photos"]


def test_every_check_says_what_it_looks_at_and_stands_after_what_it_needs() -> None:
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names)
    for number, check in enumerate(CHECKS):
        assert check.look.__doc__
        assert set(check.needs) <= set(names[:number])


# --- each thing broken in turn: what breaks it, the groups to look at, the check, words of its fix


class Broken(NamedTuple):
    title: str
    break_it: Callable[[Site, pytest.MonkeyPatch], None]
    check: str
    says: str
    groups: tuple[str, ...] = ()
    status: Status = Status.PROBLEM


def _configuration(text: str) -> Callable[[Site, pytest.MonkeyPatch], None]:
    return lambda site, _patch: site.config_path.write_text(text, encoding="utf-8") and None


def _settings(**changes: Any) -> Callable[[Site, pytest.MonkeyPatch], None]:
    def change(site: Site, _patch: pytest.MonkeyPatch) -> None:
        site.configure(**{name: site.settings.get(name, {}) | value for name, value in changes.items()})

    return change


def _environment(**changes: str | None) -> Callable[[Site, pytest.MonkeyPatch], None]:
    def change(_site: Site, patch: pytest.MonkeyPatch) -> None:
        for name, value in changes.items():
            if value is None:
                patch.delenv(name)
            else:
                patch.setenv(name, value)

    return change


def _sql(statement: str) -> Callable[[Site, pytest.MonkeyPatch], None]:
    return lambda site, _patch: site.execute(statement) and None


def _patched(target: Any, name: str, value: Any) -> Callable[[Site, pytest.MonkeyPatch], None]:
    return lambda _site, patch: patch.setattr(target, name, value)


def _root_is_gone(site: Site, _patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(site.uploads)


def _root_is_a_file(site: Site, _patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(site.uploads)
    site.uploads.touch()


def _staging_is_a_file(site: Site, _patch: pytest.MonkeyPatch) -> None:
    (site.home / "staging").touch()


def _no_listing(site: Site, patch: pytest.MonkeyPatch) -> None:
    real = os.scandir

    def refused(path: Any) -> Any:
        if Path(path) == site.uploads:
            raise PermissionError(13, "Permission denied")
        return real(path)

    patch.setattr(machine_checks.os, "scandir", refused)


def _no_avif(_site: Site, patch: pytest.MonkeyPatch) -> None:
    real = Image.Image.save

    def save(image: Image.Image, target: Any, format: str | None = None, **options: Any) -> None:
        if format == "AVIF":
            raise KeyError("AVIF")
        real(image, target, format=format, **options)

    patch.setattr(Image.Image, "save", save)


def _no_package(name: str) -> str:
    raise PackageNotFoundError(name)


def _dagster_home(text: str | None) -> Callable[[Site, pytest.MonkeyPatch], None]:
    def change(site: Site, patch: pytest.MonkeyPatch) -> None:
        home = site.home / "dagster"
        home.mkdir()
        if text is not None:
            (home / "dagster.yaml").write_text(text, encoding="utf-8")
        patch.setenv("DAGSTER_HOME", str(home))

    return change


MACHINE, DATABASE, STORE, CDN = ("machine",), ("database",), ("store",), ("CDN", "store")
BROKEN = (
    Broken("the file is no YAML", _configuration("a: [b"), "configuration", "mend that line"),
    Broken("a key is not known", _settings(store={"buckett": "b"}), "configuration", "store.buckett"),
    Broken(
        "no database URL", _environment(APP_DATABASE_URL=None), "database URL", "APP_DATABASE_URL", DATABASE
    ),
    Broken(
        "the database is gone",
        _environment(APP_DATABASE_URL="sqlite:////nowhere/app.db"),
        "database answers",
        "check the path",
        DATABASE,
        Status.DOWN,
    ),
    Broken(
        "the database is too old",
        _patched(database_checks, "_OLDEST", {"sqlite": (99,)}),
        "database version",
        "upgrade it to 99",
        DATABASE,
    ),
    Broken(
        "a table is missing",
        _sql("DROP TABLE item_photos"),
        "mapped tables and columns",
        "item_photos",
        DATABASE,
    ),
    Broken(
        "a column is missing",
        _sql("ALTER TABLE item_photos DROP COLUMN thumbnail_url"),
        "mapped tables and columns",
        "'thumbnail_url'",
        DATABASE,
    ),
    Broken(
        "no credentials",
        _environment(AWS_ACCESS_KEY_ID=None, AWS_SECRET_ACCESS_KEY=None),
        "AWS credentials",
        "AWS_ACCESS_KEY_ID",
        STORE,
    ),
    Broken(
        "half of them",
        _environment(AWS_SECRET_ACCESS_KEY=None),
        "AWS credentials",
        "SECRET_ACCESS_KEY",
        STORE,
    ),
    Broken("no such profile", _environment(AWS_PROFILE="none"), "AWS credentials", "AWS_PROFILE", STORE),
    Broken(
        "a wrong secret",
        _environment(AWS_SECRET_ACCESS_KEY="wrong"),
        "credentials accepted",
        "AWS_SECRET_ACCESS_KEY",
        STORE,
    ),
    Broken(
        "an unknown key",
        _environment(AWS_ACCESS_KEY_ID="SOMEBODYELSE"),
        "credentials accepted",
        "InvalidAccessKeyId",
        STORE,
    ),
    Broken(
        "the store is down",
        _settings(store={"endpoint_url": NOBODY}),
        "store answers",
        "store.endpoint_url",
        STORE,
        Status.DOWN,
    ),
    Broken("no such bucket", _settings(store={"bucket": "nobodys"}), "bucket", "store.bucket", STORE),
    Broken("another region", _settings(store={"region": "eu-west-1"}), "region", "store.region", STORE),
    Broken(
        "a fast clock",
        _patched(store_checks, "utc_now", lambda: utc_now() + timedelta(minutes=20)),
        "clock",
        "NTP",
        STORE,
    ),
    Broken(
        "the CDN is down",
        _settings(cdn={"base_url": NOBODY}),
        "CDN answers",
        "cdn.base_url",
        CDN,
        Status.DOWN,
    ),
    Broken("a root is gone", _root_is_gone, "roots", "mount the disk", MACHINE),
    Broken("a root is a file", _root_is_a_file, "roots", "roots[].dir", MACHINE),
    Broken("a root cannot be listed", _no_listing, "roots", "read and enter", MACHINE),
    Broken("staging is a file", _staging_is_a_file, "working folders", "state.staging_dir", MACHINE),
    Broken(
        "the disk is full",
        _patched(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**9, 10**9, 10)),  # type: ignore[attr-defined]
        "disk space",
        "state.staging_dir",
        MACHINE,
    ),
    Broken("no AVIF", _no_avif, "image formats", "requirements.lock", MACHINE),
    Broken(
        "an old Python",
        _patched(machine_checks, "_OLDEST_PYTHON", (3, 99)),
        "Python",
        "use Python 3.11",
        MACHINE,
    ),
    Broken(
        "a package is missing",
        _patched(machine_checks, "version", _no_package),
        "packages",
        "dagster",
        MACHINE,
    ),
    Broken(
        "another Dagster",
        _patched(machine_checks, "version", lambda _name: "1.14.0"),
        "packages",
        "dagster>=1.13,<1.14",
        MACHINE,
    ),
    Broken(
        "a relative Dagster home", _environment(DAGSTER_HOME="here"), "Dagster home", "absolute path", MACHINE
    ),
    Broken("a Dagster home without a file", _dagster_home(None), "Dagster home", "dagster.yaml", MACHINE),
    Broken(
        "a Dagster whose pools hold nothing back",
        _dagster_home("concurrency: {pools: {granularity: op}}"),
        "Dagster home",
        "s3_upload",
        MACHINE,
    ),
    Broken("a Dagster file that is no YAML", _dagster_home("a: ["), "Dagster home", "dagster.yaml", MACHINE),
)


@pytest.mark.parametrize("case", BROKEN, ids=lambda case: case.title)
def test_exactly_the_broken_thing_is_reported(
    healthy: Site, monkeypatch: pytest.MonkeyPatch, case: Broken
) -> None:
    case.break_it(healthy, monkeypatch)
    seen = examined(*case.groups)
    assert wrong(seen) == {case.check: case.status}
    assert case.says in to_do(seen, case.check)


def test_the_dagster_home_that_comes_with_the_project_is_fine(
    healthy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(Path(__file__).resolve().parents[3]))
    assert examined(*MACHINE)["Dagster home"].status is Status.OK


# --- permissions and settings of the bucket


@contextmanager
def store_behind(site: Site, servers: RunningServers, rule: Rule) -> Iterator[None]:
    with FaultProxy(servers.s3_url, rule) as proxy:
        site.configure(store=site.settings["store"] | {"endpoint_url": proxy.url})
        yield


def _is_probe(path: str) -> bool:
    return "/photos/.doctor/" in path


DENIED: dict[str, Rule] = {
    "may PutObject": lambda method, path, _n: Fault.DENY if method == "PUT" and _is_probe(path) else None,
    "may GetObject": lambda method, path, _n: Fault.DENY if method == "GET" and _is_probe(path) else None,
    "may ListBucket": lambda method, path, _n: (
        Fault.DENY if method != "PUT" and path == f"/{BUCKET}" else None
    ),
    "may DeleteObject": lambda method, path, _n: Fault.DENY if method == "DELETE" else None,
}


@pytest.mark.parametrize("check", DENIED)
def test_a_permission_that_is_missing_is_named(healthy: Site, servers: RunningServers, check: str) -> None:
    with store_behind(healthy, servers, DENIED[check]):
        seen = examined(*CDN)
    assert wrong(seen) == {check: Status.PROBLEM}
    assert f"allow s3:{check.removeprefix('may ')} on arn:aws:s3:::{BUCKET}" in to_do(seen, check)


def test_a_bucket_that_anybody_can_read_is_reported(healthy: Site, servers: RunningServers) -> None:
    # The second GET of the probe object is the one without credentials.
    second_get: Rule = lambda method, path, earlier: (  # noqa: E731
        Fault.FORGET if method == "GET" and _is_probe(path) and earlier == 1 else None
    )
    with store_behind(healthy, servers, second_get):
        seen = examined(*STORE)
    assert wrong(seen) == {"bucket is private": Status.PROBLEM}
    assert "bucket policy or ACL" in to_do(seen, "bucket is private")


def test_a_bucket_without_versions_or_with_half_a_block_is_reported(
    healthy: Site, servers: RunningServers
) -> None:
    client = boto3.client("s3", endpoint_url=servers.s3_url, region_name=servers.region)
    block = client.get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    try:
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Suspended"})
        client.put_public_access_block(
            Bucket=BUCKET, PublicAccessBlockConfiguration=block | {"BlockPublicPolicy": False}
        )
        seen = examined(*STORE)
    finally:
        client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        client.put_public_access_block(Bucket=BUCKET, PublicAccessBlockConfiguration=block)
    assert wrong(seen) == {"versioning": Status.PROBLEM, "Block Public Access": Status.PROBLEM}
    assert "BlockPublicPolicy" in to_do(seen, "Block Public Access")
    assert f"--bucket {BUCKET}" in to_do(seen, "versioning")


# --- the CDN


def _hidden(asked: Asked, answered: Answered) -> Answered:
    return Answered(403, {}, b"") if "/.doctor/" in asked.path else answered


def _not_cached(asked: Asked, answered: Answered) -> Answered:
    return answered.with_header("Cache-Control", "no-store") if asked.path.endswith(".jpg") else answered


def _shows_originals(asked: Asked, answered: Answered) -> Answered:
    return Answered(200, {}, b"") if asked.path.startswith("/originals/") else answered


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        ({"change_answer": _hidden}, "CDN delivers", "origin be this bucket"),
        ({"change_answer": _not_cached}, "CDN delivers", "no response headers policy"),
        ({"change_answer": _shows_originals}, "originals are hidden", "bucket's policy"),
        ({"change_request": lambda asked: replace(asked, accept="*/*")}, ".auto URLs", "routing publish"),
    ],
)
def test_a_cdn_that_delivers_wrongly_is_reported(
    healthy: Site, servers: RunningServers, fault: dict[str, Any], check: str, says: str
) -> None:
    with CdnProxy(servers.cdn_url) as proxy:
        vars(proxy).update(fault)
        healthy.configure(cdn={"base_url": proxy.url})
        seen = examined(*CDN)
    assert wrong(seen) == {check: Status.PROBLEM}
    assert says in to_do(seen, check)
    assert left_behind(healthy, servers) == []


def _distribution(client: Any, servers: RunningServers, **changes: Any) -> str:
    origin = {"Id": "s3", "DomainName": f"{BUCKET}.s3.us-east-1.amazonaws.com"}
    origin["DomainName"] = changes.pop("origin", origin["DomainName"])
    config = {
        "CallerReference": uuid.uuid4().hex,
        "Comment": "",
        "Enabled": True,
        "Aliases": {"Quantity": 1, "Items": ["127.0.0.1"]},
        "Origins": {"Quantity": 1, "Items": [origin | {"S3OriginConfig": {"OriginAccessIdentity": ""}}]},
        "DefaultCacheBehavior": {
            "TargetOriginId": "s3",
            "ViewerProtocolPolicy": "redirect-to-https",
            "ForwardedValues": {"QueryString": False, "Cookies": {"Forward": "none"}},
            "MinTTL": 0,
        },
    }
    return str(client.create_distribution(DistributionConfig=config | changes)["Distribution"]["Id"])


def test_the_right_distribution_is_told_from_wrong_ones(
    healthy: Site, servers: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFRONT", f"http://{host}:{port}")
    client = boto3.client("cloudfront", region_name="us-east-1")
    other_name = {"Aliases": {"Quantity": 1, "Items": ["cdn.example.com"]}}
    cases = [
        (_distribution(client, servers), Status.OK, ""),
        ("ENOTHERE", Status.PROBLEM, "name or id"),
        (_distribution(client, servers, Enabled=False), Status.PROBLEM, "switched off"),
        (_distribution(client, servers, **other_name), Status.PROBLEM, "cdn.base_url"),
        (_distribution(client, servers, origin="b.s3.amazonaws.com"), Status.PROBLEM, BUCKET),
    ]
    wanted = [each for each in CHECKS if each.name in ("configuration", "AWS credentials", "distribution")]
    wanted = [replace(each, needs=()) if each.name == "distribution" else each for each in wanted]
    try:
        for distribution, status, says in cases:
            healthy.configure(cdn={"base_url": servers.cdn_url, "distribution_id": distribution})
            seen = {each.check.name: each for each in examine(checks=wanted)}
            assert seen["distribution"].status is status
            assert says in to_do(seen, "distribution")
    finally:
        moto.stop()
    seen = {each.check.name: each for each in examine(checks=wanted)}
    assert wrong(seen) == {"distribution": Status.DOWN}


# --- the rights of a PostgreSQL login


@pytest.fixture
def limited(make_site: MakeSite, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site in PostgreSQL whose login has just what it needs."""
    site = make_site(database="postgres", photos=1, sources=[AUTO])
    role = f"limited_{site.name}"
    site.execute(f"CREATE ROLE {role} LOGIN")
    site.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {role}")
    site.execute(f"GRANT SELECT, UPDATE ON item_photos TO {role}")
    url = sa.make_url(site.url).set(username=role)
    monkeypatch.setenv("APP_DATABASE_URL", url.render_as_string(hide_password=False))
    return site


@pytest.mark.parametrize(
    ("statement", "check", "says"),
    [
        ("SELECT 1", None, ""),
        ("REVOKE CREATE ON SCHEMA public FROM {role}", "may create tables", "CREATE on the schema"),
        ("REVOKE UPDATE ON item_photos FROM {role}", "may read and write rows", "UPDATE on item_photos"),
        ("REVOKE SELECT ON item_photos FROM {role}", "may read and write rows", "SELECT on item_photos"),
        (
            "ALTER TABLE item_photos ALTER original_url TYPE varchar(60)",
            "new values fit",
            "'original_url' takes 60",
        ),
        ("ALTER TABLE item_photos ALTER mime_type TYPE varchar(5)", "new values fit", "'mime_type' takes 5"),
        ("ALTER ROLE {role} NOLOGIN", "database answers", "not permitted to log in"),
    ],
)
def test_rights_that_a_postgresql_login_lacks_are_named(
    limited: Site, statement: str, check: str | None, says: str
) -> None:
    limited.execute(statement.format(role=f"limited_{limited.name}"))
    seen = examined(*DATABASE)
    assert set(wrong(seen)) == ({check} if check else set())
    if check:
        assert says in to_do(seen, check)
    assert sa.inspect(limited.engine()).get_table_names() == ["item_photos"]


def test_a_url_beside_a_key_is_measured_as_a_url_in_mode_key(
    make_site: MakeSite, postgres: PostgresServer
) -> None:
    """A key would fit into 125 characters; the URL that the rewrite writes does not."""
    rewrite = {"mode": "key", "format": "jpeg", "write_back": {"mime_type": "url.thumb"}}
    site = make_site(database="postgres", photos=1, sources=[AUTO | {"rewrite": rewrite}])
    site.execute("ALTER TABLE item_photos ALTER mime_type TYPE varchar(125)")
    seen = examined(*DATABASE)
    assert list(wrong(seen)) == ["new values fit"]
    assert "'mime_type' takes 125" in to_do(seen, "new values fit")


# --- the command


def command(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["doctor", *arguments], prog_name="photo-pipeline")
    return result.exit_code, result.stdout


def test_the_command_shows_a_table_a_list_of_what_to_do_and_its_exit_code(
    healthy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, shown = command()
    assert code == 0
    assert "Nothing to do: every prerequisite is met." in shown
    shutil.rmtree(healthy.uploads)
    code, shown = command("--json")
    document = json.loads(shown)
    assert (code, document["healthy"], document["counts"]["problem"]) == (1, False, 1)
    (found,) = [each for each in document["checks"] if each["status"] == "problem"]
    assert (found["check"], found["subject"]) == ("roots", "uploads")
    assert str(healthy.uploads) in found["detail"]
    healthy.configure(cdn={"base_url": NOBODY})
    code, shown = command()
    assert code == 4
    assert "1. CDN answers" in shown
    assert "2. roots uploads" in shown


def test_no_secret_is_shown(healthy: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DATABASE_URL", "postgresql://someone:pass-word-1@127.0.0.1:9/app")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret-2")
    _, shown = command("--json")
    assert "pass-word-1" not in shown
    assert "wrong-secret-2" not in shown
    assert ACCESS_KEY not in shown
    assert SECRET_KEY not in shown
