"""The `photo-pipeline` command as a person or a script meets it: its output and its exit code.

An error is one sentence on standard error, one JSON document on standard output with --json, and has
changed nothing.

`run` calls the command in this process, which reads the same arguments, environment and files; a process of
its own (`run_program`) takes 1.5 s of CPU for its imports alone. That one behaves alike is shown by one run
of each kind: a migration, an error, a usage error, the help, Ctrl-C.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.command import downgrade
from typer.testing import CliRunner

from photo_pipeline.cli import app
from photo_pipeline.cli.lazy import Listed, load
from photo_pipeline.cli.program import COMMANDS as LISTED
from photo_pipeline.core import audit
from photo_pipeline.core.catalog import database, schema
from photo_pipeline.core.catalog.schema import ensure_schema
from photo_pipeline.core.config import DEFAULT_CONFIG_NAME, load_config
from photo_pipeline.core.migration.lease import BatchLease
from photo_pipeline.core.sources.presets import CUSTOM, PRESETS
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline_tests.conftest import MakeSite, standing_site
from photo_pipeline_tests.core.migration.test_restore import lose_the_state_tables
from photo_pipeline_tests.fault_proxy import Fault, FaultProxy
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import Site, photo
from photo_pipeline_tests.sockets import free_port, listening_socket

PROGRAM = Path(sys.executable).with_name("photo-pipeline")
COMMANDS = (
    *("demo", "init", "plan", "migrate", "status", "pause", "resume", "abort", "rollback"),
    *("validate", "report", "restore", "rebuild", "repoint", "rehearse", "provision", "audit", "mapping"),
    *("routing", "invalidate", "sign", "warm", "doctor", "orphans", "cleanup", "delete", "cost"),
    *("helpers", "serve", "alerts", "metrics"),
)
SUBCOMMANDS = (
    *("audit verify", "audit show", "mapping suggest", "routing publish", "routing show"),
    *("helpers list", "helpers copy", "alerts list", "alerts check", "alerts test"),
    *("provision plan", "provision apply", "provision drift", "provision policies"),
)
BATCH = "batch-000001"


@dataclass(frozen=True)
class Ran:
    """One finished run of the command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """Standard output, which must be exactly one JSON document."""
        return json.loads(self.out)


def run(*arguments: str | Path, cwd: Path | None = None) -> Ran:
    """Call the command in this process."""
    with chdir(cwd or Path.cwd()):
        done = CliRunner().invoke(app, [os.fspath(each) for each in arguments], prog_name="photo-pipeline")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ran(done.exit_code, done.stdout, done.stderr)


def run_program(*arguments: str | Path) -> Ran:
    """Run the installed program."""
    done = subprocess.run(
        [PROGRAM, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def assert_one_clear_error(ran: Ran, *, code: int, words: tuple[str, ...]) -> None:
    """The error is one line that names thing, cause and fix, and with --json the same as a document."""
    assert ran.code == code, ran.err
    (line,) = ran.err.splitlines()
    assert line.startswith("photo-pipeline: ")
    for word in words:
        assert word in line
    error = ran.document
    assert error["exit_code"] == code
    assert error["thing"] in line
    assert error["cause"] in line
    assert error["fix"], "an error without a fix leaves its reader alone"
    assert error["fix"][1:] in line


def state_tables(site: Site) -> list[str]:
    engine = site.engine()
    names = [name for name in sa.inspect(engine).get_table_names() if name.startswith("pp_")]
    engine.dispose()
    return names


# --- errors that are found before anything is done

Environment = pytest.MonkeyPatch
Break = Callable[[Site, Environment], None]


def configured(**changes: Any) -> Break:
    """Break top-level settings; a dict is merged into the setting."""

    def apply(site: Site, _env: Environment) -> None:
        for name, value in changes.items():
            old = site.settings.get(name)
            site.configure(**{name: {**old, **value} if isinstance(old, dict) else value})

    return apply


def source(**changes: Any) -> Break:
    return lambda site, env: configured(sources=[site.settings["sources"][0] | changes])(site, env)


def variable(name: str, value: str | None) -> Break:
    def apply(_site: Site, env: Environment) -> None:
        if value is None:
            env.delenv(name)
        else:
            env.setenv(name, value)

    return apply


def written(text: bytes) -> Break:
    return lambda site, _env: site.config_path.write_bytes(text) and None


def no_credentials(_site: Site, env: Environment) -> None:
    env.delenv("AWS_ACCESS_KEY_ID")
    env.delenv("AWS_SECRET_ACCESS_KEY")
    env.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    env.setenv("AWS_CONFIG_FILE", "/dev/null")


def no_root(site: Site, _env: Environment) -> None:
    site.uploads.rename(site.home / "elsewhere")


def dead(kind: str) -> str:
    return f"{kind}://127.0.0.1:{free_port()}"


ERRORS: dict[str, tuple[Break, int, tuple[str, ...]]] = {
    "no configuration": (
        variable("PHOTO_PIPELINE_CONFIG", "/nowhere/photo_pipeline.yaml"),
        2,
        ("/nowhere/photo_pipeline.yaml", "no configuration file", "init"),
    ),
    "no yaml": (written(b"version: [1"), 2, ("photo_pipeline.yaml", "not valid YAML", "line 1")),
    "no text": (written(b"\xff\xfe\x00"), 2, ("photo_pipeline.yaml", "not valid YAML")),
    "an empty file": (written(b""), 2, ("photo_pipeline.yaml", "no settings", "init")),
    "an unknown key": (configured(batches={"sise": 5}), 2, ("batches.sise", "not known")),
    "an impossible value": (configured(batches={"size": 0}), 2, ("batches.size", "greater than 0")),
    "an unknown root": (
        source(fields=[{"kind": "url", "column": "original_url", "root": "pictures"}]),
        2,
        ("original_url", "'pictures'", "not declared"),
    ),
    "an unknown table": (source(table="item_fotos"), 2, ("item_fotos", "no such table", "mapping")),
    "an unknown column": (source(position="rank"), 2, ("item_photos", "'rank'", "no such column")),
    "no database url": (
        variable("APP_DATABASE_URL", None),
        2,
        ("$APP_DATABASE_URL", "not set", "export APP_DATABASE_URL="),
    ),
    "a malformed database url": (
        variable("APP_DATABASE_URL", "shop database"),
        2,
        ("$APP_DATABASE_URL", "not a database URL", "postgresql://"),
    ),
    "a malformed database port": (
        variable("APP_DATABASE_URL", "postgresql://shop:secret-word@127.0.0.1:port/shop"),
        2,
        ("$APP_DATABASE_URL", "not a database URL", "postgresql://"),
    ),
    "an unknown kind of database": (
        variable("APP_DATABASE_URL", "oracle9://shop@127.0.0.1/shop"),
        2,
        ("$APP_DATABASE_URL", "not a database URL", "postgresql://"),
    ),
    "no sqlite file": (
        variable("APP_DATABASE_URL", "sqlite:////nowhere/app.db"),
        4,
        ("$APP_DATABASE_URL", "/nowhere/app.db", "Check the path"),
    ),
    "a file that is no database": (
        lambda site, env: env.setenv("APP_DATABASE_URL", f"sqlite:///{site.config_path}"),
        4,
        ("$APP_DATABASE_URL", "photo_pipeline.yaml", "not a database"),
    ),
    "no postgres server": (
        lambda _site, env: env.setenv(
            "APP_DATABASE_URL", f"postgresql://shop:secret-word@127.0.0.1:{free_port()}/shop"
        ),
        4,
        ("$APP_DATABASE_URL", "does not answer at 127.0.0.1", "Start it"),
    ),
    "no root folder": (no_root, 4, ("root 'uploads'", "No such file", "Mount it")),
    "no bucket": (configured(store={"bucket": "no-such-bucket"}), 2, ("'no-such-bucket'", "does not exist")),
    "no endpoint": (
        lambda site, env: configured(store={"endpoint_url": dead("http")})(site, env),
        4,
        ("object store http://127.0.0.1", "does not answer", "store.endpoint_url"),
    ),
    "an endpoint without a scheme": (
        configured(store={"endpoint_url": "127.0.0.1:9000"}),
        2,
        ("store", "127.0.0.1:9000", "http://host:port"),
    ),
    "wrong credentials": (
        variable("AWS_SECRET_ACCESS_KEY", "wrong"),
        2,
        ("bucket 'test-photos'", "refuses these credentials", "AWS_SECRET_ACCESS_KEY"),
    ),
    "no credentials": (no_credentials, 2, ("AWS credentials", "there are none", "AWS_PROFILE")),
    "an unknown profile": (variable("AWS_PROFILE", "nobody"), 2, ("$AWS_PROFILE", "nobody", "profile")),
    "no cdn url": (configured(cdn={"base_url": "cdn.example.com"}), 2, ("cdn.base_url", "http(s) URL")),
}


@pytest.mark.parametrize("broken", ERRORS)
def test_a_migration_that_cannot_begin_says_why_and_changes_nothing(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, s3_access_log: Path, broken: str
) -> None:
    site = make_site(photos=1)
    before = site.dump()
    break_it, code, words = ERRORS[broken]
    break_it(site, monkeypatch)
    ran = (run_program if broken == "no bucket" else run)("migrate", "--json")
    assert_one_clear_error(ran, code=code, words=words)
    assert "secret-word" not in ran.err + ran.out
    assert site.dump() == before
    assert state_tables(site) == []
    assert site.puts(s3_access_log) == []


@pytest.fixture
def guarded_postgres(postgres: PostgresServer, make_site: MakeSite) -> tuple[Site, sa.URL]:
    """A site on PostgreSQL, and a URL to it for a role that must give its password."""
    site = make_site(photos=1, database="postgres")
    role = f"login_{site.name}"
    site.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'right'")
    postgres.require_password(role)
    return site, sa.make_url(site.url).set(username=role, password="right")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "secret-word"}, ("password authentication failed", "Correct the URL")),
        ({"database": "no_such_shop"}, ("no_such_shop", "does not exist", "Correct the URL")),
        ({"username": "nobody_here"}, ("nobody_here", "does not exist", "Correct the URL")),
    ],
)
def test_a_login_that_postgres_refuses_is_a_configuration_error(
    guarded_postgres: tuple[Site, sa.URL],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    words: tuple[str, ...],
) -> None:
    site, url = guarded_postgres
    before = site.dump()
    monkeypatch.setenv("APP_DATABASE_URL", url.set(**changes).render_as_string(hide_password=False))
    ran = run("migrate", "--json")
    assert_one_clear_error(ran, code=2, words=("$APP_DATABASE_URL", *words))
    assert "secret-word" not in ran.err + ran.out
    assert (site.dump(), state_tables(site)) == (before, [])


def test_a_postgres_that_accepts_but_never_answers_is_infrastructure(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_site(photos=1)
    monkeypatch.setattr(database, "_CONNECT_TIMEOUT_S", 2)  # libpq knows no shorter one
    with listening_socket() as black_hole:
        port = black_hole.getsockname()[1]
        monkeypatch.setenv("APP_DATABASE_URL", f"postgresql://shop:secret-word@127.0.0.1:{port}/shop")
        ran = run("migrate", "--json")
    assert_one_clear_error(ran, code=4, words=("$APP_DATABASE_URL", f"does not answer at 127.0.0.1:{port}"))


def test_without_json_the_same_sentence_stands_alone(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_site(photos=1)
    monkeypatch.delenv("APP_DATABASE_URL")
    ran = run("status")
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert line.startswith("photo-pipeline: $APP_DATABASE_URL: ")


# --- errors in the middle of the work


def test_a_cdn_that_is_down_changes_no_row_and_the_next_run_ends_it(
    make_site: MakeSite, servers: RunningServers, s3_access_log: Path
) -> None:
    site = make_site(photos=2)
    before = site.dump()
    site.configure(cdn={"base_url": dead("http")})
    ran = run("migrate", "--json")
    told = ("CDN http://127.0.0.1", "does not answer (Failed to establish", "cdn.base_url")
    assert_one_clear_error(ran, code=4, words=told)
    assert site.dump() == before
    site.configure(cdn={"base_url": servers.cdn_url})
    assert run("migrate").code == 0
    assert site.states() == {"migrated": 2}
    assert len(site.puts(s3_access_log)) == 2 * 7


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def test_what_an_earlier_version_migrated_can_be_taken_back_at_once(
    make_site: MakeSite, database: str
) -> None:
    site = make_site(photos=2, database=database)
    before = site.dump()
    assert run("migrate").code == 0
    with site.project() as project, project.database.write() as connection:
        downgrade(schema._config(connection), "0001")
    for ran in (run("report"), run("validate"), run("rollback", "--all")):
        assert ran.code == 0, ran.err
    assert site.dump() == before


def test_status_brings_an_earlier_version_s_tables_up_to_date_as_a_plan_tells_to(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    assert run("migrate").code == 0
    shown = run("status", "--json").document
    with site.project() as project, project.database.write() as connection:
        downgrade(schema._config(connection), "0014")
    assert_one_clear_error(run("plan", "--json"), code=2, words=("0014", "photo-pipeline status"))
    assert run("status", "--json").document["batches"] == shown["batches"]
    assert run("plan").code == 0


def test_a_batch_that_a_living_process_works_on_is_refused(make_site: MakeSite, s3_access_log: Path) -> None:
    site = make_site(photos=1)
    before = site.dump()
    with site.project() as project:
        site.inventory(project)
        with BatchLease(project.database, BATCH, run="another"):
            ran = run("migrate", "--json")
    assert_one_clear_error(ran, code=3, words=(BATCH, "another", "lease expires at"))
    assert site.dump() == before
    assert site.puts(s3_access_log) == []


def test_a_database_that_goes_away_in_the_middle_is_one_sentence_and_resumable(
    make_site: MakeSite, servers: RunningServers, postgres: PostgresServer
) -> None:
    site = make_site(photos=3, database="postgres")
    before, name = site.dump(), sa.make_url(site.url).database

    def shut_the_database(method: str, path: str, earlier: int) -> Fault | None:
        if method == "PUT" and path.startswith("/test-photos/originals/"):
            postgres.allow_connections(name, allowed=False)
        return None

    with FaultProxy(servers.s3_url, shut_the_database) as proxy:
        configured(store={"endpoint_url": proxy.url})(site, None)
        ran = run("migrate", "--json")
    postgres.allow_connections(name, allowed=True)
    assert_one_clear_error(
        ran, code=4, words=("the database in $APP_DATABASE_URL", "not currently accepting")
    )
    assert site.dump() == before
    configured(store={"endpoint_url": servers.s3_url})(site, None)
    assert run("migrate").code == 0
    assert site.states() == {"migrated": 3}


class Interrupted:
    """A `migrate` in a session of its own; Ctrl-C in a terminal interrupts the whole group at once."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, "migrate", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def ended(self) -> Ran:
        out, err = self.process.communicate(timeout=60)
        return Ran(self.process.returncode, out, err)


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        threading.Event().wait(0.01)


def staged(site: Site) -> list[Path]:
    return [path for path in (site.home / "staging").rglob("*") if path.is_file()]


def assert_interrupted_clearly(ran: Ran) -> None:
    assert ran.code == 130, ran.err
    line = ran.err.splitlines()[-1]  # after lines of progress, on a slow machine
    assert "Interrupted" in line
    assert "again" in line


def test_ctrl_c_during_the_upload_is_acknowledged_and_the_next_run_completes(
    make_site: MakeSite, servers: RunningServers, s3_access_log: Path
) -> None:
    site = make_site(photos=3)
    before = site.dump()
    uploading, go_on = threading.Event(), threading.Event()

    def hold_uploads(method: str, path: str, earlier: int) -> Fault | None:
        if method == "PUT" and "/.probe/" not in path:
            uploading.set()
            go_on.wait(60)
        return None

    with FaultProxy(servers.s3_url, hold_uploads) as proxy:
        configured(store={"endpoint_url": proxy.url})(site, None)
        migration = Interrupted()
        assert uploading.wait(60)
        migration.interrupt()
        go_on.set()
        assert_interrupted_clearly(migration.ended())
    assert site.dump() == before
    configured(store={"endpoint_url": servers.s3_url})(site, None)
    assert run("migrate").code == 0
    assert site.states() == {"migrated": 3}
    assert len(site.puts(s3_access_log)) == 3 * 7


def test_ctrl_c_while_variants_are_made_is_acknowledged_and_the_next_run_completes(
    make_site: MakeSite,
) -> None:
    site = make_site(photos=6, workers={"processes": 1})
    for number in range(6):
        photo(site.uploads / f"items/{number}.jpg", width=800, height=600, seed=number)
    before = site.dump()
    migration = Interrupted()
    wait_until(lambda: bool(staged(site)))
    migration.interrupt()
    assert_interrupted_clearly(migration.ended())
    assert site.dump() == before
    assert len(staged(site)) < 6 * 6, "it was interrupted too late to show anything"
    assert run("migrate").code == 0
    assert site.states() == {"migrated": 6}


# --- usage


@pytest.mark.parametrize("command", [*COMMANDS, *SUBCOMMANDS])
def test_every_commands_help_shows_an_example(command: str) -> None:
    # In this process: ten more interpreters would show nothing more, and take 2 s of CPU each.
    shown = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="photo-pipeline")
    assert shown.exit_code == 0
    assert f"Examples:\n  photo-pipeline {command}" in shown.output
    assert "Exit codes:" in shown.output
    assert "See also:" in shown.output


def test_the_help_names_every_command_and_the_usual_file() -> None:
    ran = run_program("--help")
    assert ran.code == 0
    for command in COMMANDS:
        assert f"  {command} " in ran.out
    assert DEFAULT_CONFIG_NAME in ran.out


@pytest.mark.parametrize("listed", LISTED, ids=lambda each: each.name)
def test_the_help_lists_each_command_as_its_own_help_begins(listed: Listed) -> None:
    assert str(load(listed).help).splitlines()[0] == listed.summary


def test_listing_the_commands_imports_nothing_of_what_they_need() -> None:
    """It took 1.2 s when it did; modules are counted, because seconds depend on the machine."""
    script = "import sys; import photo_pipeline.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"sqlalchemy", "alembic", "boto3", "numpy", "PIL", "pydantic", "yaml", "pyarrow", "dagster"}
    assert heavy.isdisjoint(done.stdout.split())


def test_a_mistyped_command_is_answered_with_the_one_that_was_meant() -> None:
    ran = run_program("migrat")
    assert ran.code == 2
    assert "Did you mean 'migrate'?" in ran.err


def test_the_audit_log_is_shown_and_a_changed_entry_is_found(make_site: MakeSite) -> None:
    site = make_site(photos=0)
    assert_one_clear_error(run("audit", "verify", "--json"), code=2, words=("nothing has been migrated yet",))
    with site.project() as project:
        ensure_schema(project.database)
        for number in range(3):
            with project.database.write() as connection:
                audit.record(connection, action="pause", subject=f"stop {number}", details={}, run="r")
    shown = run("audit", "show", "--last", "2", "--json").document["entries"]
    assert [entry["subject"] for entry in shown] == ["stop 1", "stop 2"]
    assert "stop 2" in run("audit", "show").out
    proven = run("audit", "verify")
    assert (proven.code, shown[-1]["hash"] in proven.out) == (0, True)
    assert run("audit", "verify", "--head", "0" * 63 + "1").code == 1
    site.execute("UPDATE pp_audit SET subject = 'nothing' WHERE seq = 2")
    broken = run("audit", "verify", "--json")
    assert (broken.code, broken.document["broken_seq"]) == (1, 2)
    assert "BROKEN at entry 2: its content is not what was recorded" in run("audit", "verify").out


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("migrat",), "'migrat'"),
        (("migrate", "--fast"), "--fast"),
        (("migrate", "--sample", "2"), "'--sample'"),
    ],
)
def test_what_the_command_line_does_not_know_is_a_usage_error(arguments: tuple[str, ...], named: str) -> None:
    ran = run(*arguments)
    assert ran.code == 2
    assert named in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("preset", PRESETS)
def test_init_writes_a_file_that_loads_as_it_is(tmp_path: Path, preset: str) -> None:
    ran = run("init", "--preset", preset, cwd=tmp_path)
    assert ran.code == 0
    assert "photo_pipeline.yaml" in ran.out
    config = load_config(tmp_path / "photo_pipeline.yaml", needs_sources=False)
    assert bool(config.sources) == (preset != CUSTOM)
    assert ("mapping suggest" if preset == CUSTOM else "doctor") in ran.out


def test_init_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "photo_pipeline.yaml").write_text("mine", encoding="utf-8")
    ran = run("init", "--json", cwd=tmp_path)
    assert_one_clear_error(ran, code=3, words=("photo_pipeline.yaml", "exists already", "--output"))
    assert (tmp_path / "photo_pipeline.yaml").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--preset", "laravel9"), ("'laravel9'", "no such preset", "item_photos")),
        (("--output", "no/such/folder.yaml"), ("no/such/folder.yaml", "cannot be written")),
    ],
)
def test_init_refuses_what_it_cannot_do(
    tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    assert_one_clear_error(run("init", "--json", *arguments, cwd=tmp_path), code=2, words=words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("rollback", "--all"), ("validate",)])
def test_what_needs_a_migration_says_so_before_the_first_one(
    make_site: MakeSite, command: tuple[str, ...]
) -> None:
    site = make_site(photos=1)
    ran = run(*command, "--json")
    assert_one_clear_error(ran, code=2, words=("nothing has been migrated", "photo-pipeline migrate"))
    assert state_tables(site) == []


# --- the way through


def database_files(site: Site) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in site.home.glob("app.db*")}


def test_status_before_the_first_run_leaves_the_database_file_untouched(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    before = database_files(site)
    ran = run("status", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert ran.document == {"status": None, "inventory": None, "batches": []}
    assert database_files(site) == before


def test_status_before_the_first_run_makes_no_table_in_postgres(make_site: MakeSite) -> None:
    site = make_site(photos=1, database="postgres")
    ran = run("status")
    assert (ran.code, ran.err) == (0, "")
    assert "photo-pipeline migrate" in ran.out
    assert state_tables(site) == []


def test_a_migration_there_and_back_and_there_again(make_site: MakeSite, s3_access_log: Path) -> None:
    site = make_site(photos=4, batch_size=2)
    before = site.dump()

    migrated = run_program("migrate", "--json")
    assert (migrated.code, migrated.err) == (0, "")
    assert [batch["state"] for batch in migrated.document["batches"]] == ["completed", "completed"]
    assert Path(migrated.document["report"]).is_file()

    again = run("migrate")
    assert again.code == 0
    assert "nothing to migrate" in again.out

    status = run("status", "--json")
    assert (status.code, status.document["status"]) == (0, "completed")
    assert [batch["photos"] for batch in status.document["batches"]] == [{"migrated": 2}] * 2

    validated = run("validate", "--json")
    assert validated.code == 0
    assert [batch["passed"] for batch in validated.document["batches"].values()] == [2, 2]

    report = run("report", "--json")
    assert report.code == 0
    assert all(Path(path).is_file() for path in report.document.values())

    ((chosen,),) = site.execute("SELECT MIN(id) FROM pp_photo WHERE batch = 'batch-000002'")
    one = run("rollback", "--photo", str(chosen), "--json")
    assert (one.code, one.document["batches"]["batch-000002"]["rolled_back"]) == (0, 1)
    assert run("rollback", "--batch", BATCH).code == 0
    assert site.states() == {"migrated": 1, "rolled_back": 3}
    assert run("rollback", "--all").code == 0
    assert site.dump() == before

    puts = len(site.puts(s3_access_log))
    assert run("migrate", "--batch", BATCH, "--batch", "batch-000002").code == 0
    assert site.states() == {"migrated": 4}
    assert len(site.puts(s3_access_log)) == puts == 4 * 7


def test_a_migration_tells_how_a_sample_of_its_variants_looks(make_site: MakeSite) -> None:
    make_site(photos=1, quality={"sample": 1.0})
    ran = run("migrate")
    assert ran.code == 0
    assert re.search(r"batch-000001: completed .*, quality \d\d\.\d \(worst \d\d\.\d\)", ran.out)


def test_a_migration_with_findings_ends_with_one_and_names_them(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    bad = site.uploads / "items/1.jpg"
    bad.write_bytes(bad.read_bytes()[:2000])
    ran = run("migrate", "--json")
    assert (ran.code, ran.err) == (1, "")
    (batch,) = ran.document["batches"]
    assert (batch["processed"]["quarantined"], batch["validated"]["passed"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("rollback",), ("rollback", "--batch, --photo and --all")),
        (("rollback", "--all", "--batch", BATCH), ("rollback", "--batch, --photo and --all")),
        (("rollback", "--batch", "batch-9"), ("'batch-9'", "no such batch", "status")),
        (("rollback", "--photo", "999999"), ("photo 999999", "no batch has it", "photos.csv")),
        (("validate", "--batch", "batch-9"), ("'batch-9'", "no such batch", "status")),
        (("migrate", "--batch", "batch-9"), ("'batch-9'", "no such batch", "status")),
    ],
)
def test_a_choice_that_does_not_exist_is_refused_and_changes_nothing(
    migrated: Site, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    before = migrated.dump()
    assert_one_clear_error(run(*arguments, "--json"), code=2, words=words)
    assert migrated.dump() == before


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory, servers: RunningServers) -> Iterator[Site]:
    """A migrated site that nothing may change."""
    with standing_site(tmp_path_factory.mktemp("migrated"), servers, photos=1) as site:
        site.migrate()
        yield site


def test_one_quarantined_photo_can_be_tried_again_alone(make_site: MakeSite) -> None:
    site = make_site(photos=3)
    mended = [(site.uploads / f"items/{n}.jpg").read_bytes() for n in (0, 1)]
    for n in (0, 1):
        (site.uploads / f"items/{n}.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    assert run("migrate").code == 1
    assert site.states() == {"migrated": 1, "quarantined": 2}
    site.execute("UPDATE pp_photo SET error_detail = 'left' WHERE state = 'quarantined'")
    assert_one_clear_error(run("migrate", "--photo", "1", "--json"), code=2, words=("--retry-failed",))
    ((photo_id, path),) = site.execute(
        "SELECT id, path FROM pp_photo WHERE state = 'quarantined' ORDER BY path LIMIT 1"
    )
    (site.uploads / path).write_bytes(mended[0])
    retried = run("migrate", "--retry-failed", "--photo", str(photo_id), "--json")
    assert retried.document["batches"][0]["batch"] == BATCH
    assert site.states() == {"migrated": 2, "quarantined": 1}
    assert site.execute("SELECT error_detail FROM pp_photo WHERE state = 'quarantined'") == [("left",)]


def test_the_ways_back_from_a_loss_as_a_person_takes_them(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    before = site.dump()
    assert run("migrate").code == 0
    after = site.dump()
    assert run("rehearse").code == 0
    lose_the_state_tables(site)
    dry = run("restore", "--json")
    assert (dry.code, dry.document["restore"]["rows_restored"], site.dump()) == (0, 2, after)
    assert run("rebuild").code == 0
    assert run("validate").code == 0
    assert run("restore", "--from-bucket", "--apply").code == 0
    assert site.dump() == before
    assert run("status").code == 0
    damaged = next((site.home / "backups").rglob("*.parquet"))
    damaged.write_bytes(damaged.read_bytes()[:-1])
    assert_one_clear_error(run("restore", "--json"), code=2, words=(damaged.name, "--from-bucket"))
