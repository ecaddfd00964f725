"""What the command line looks like: in real terminals of several widths, in pipes, in colours or not."""

import io
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from rich.console import Console

from photo_pipeline.cli.watching import watch
from photo_pipeline.cli.watching_view import view_of
from photo_pipeline.core.catalog.tables import utc_now
from photo_pipeline.core.live.batches import BatchBoard, LiveBatch
from photo_pipeline.core.live.pace import measure, time_left
from photo_pipeline.core.live.state import LiveReader
from photo_pipeline.core.migration import control
from photo_pipeline.core.progress import BYTES_SENT
from photo_pipeline.demo.servers import RunningServers
from photo_pipeline.terminal import Terminal
from photo_pipeline.terminal_progress import Journey, human_seconds
from photo_pipeline.terminal_table import table
from photo_pipeline_tests.conftest import MakeSite, standing_site
from photo_pipeline_tests.postgres import PostgresServer
from photo_pipeline_tests.sites import Site
from photo_pipeline_tests.terminals import PROGRAM, TerminalRun

ROWS = [
    ["batch-000001", "completed", "14 migrated, 1 quarantined", ""],
    ["batch-000002", "running", "7", "é"],
]
COLUMNS = ("batch", "state", "photos", "note")


def drawn(width: int, rows: list[list[str]] = ROWS) -> str:
    out = io.StringIO()
    Console(file=out, width=width, soft_wrap=True).print(table(COLUMNS, rows, width=width))
    return out.getvalue()


class FakeClock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_a_table_fits_and_cuts_no_value(width: int) -> None:
    shown = drawn(width)
    assert "…" not in shown
    for words in ROWS:
        for word in " ".join(words).split():
            assert word in shown
    if width >= 40:
        assert max(map(len, shown.splitlines())) <= width


def test_a_table_too_wide_for_the_terminal_becomes_one_line_per_value() -> None:
    assert drawn(24).splitlines()[:3] == [
        "batch: batch-000001",
        "state: completed",
        "photos: 14 migrated, 1 quarantined",
    ]


def test_without_a_terminal_progress_is_a_line_every_five_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    terminal = Terminal(clock=clock)
    terminal.expect({"batch-000001": 100, "batch-000002": 300})
    with terminal.progress("batch-000001") as progress:
        for done in range(101):
            progress("variants", done, 100)
            clock.now += 0.5
        progress("objects", 0, 600)
        clock.now += 5
        progress("objects", 300, 600)
        progress(BYTES_SENT, 10 * 1024 * 1024, None)
        clock.now += 5
        progress("objects", 500, 600)
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == 12
    assert lines[0] == ("batch-000001: variants 10 of 100, 2.0 photos/s, 45 s left; all batches 10 of 400")
    assert "variants 90 of 100, 2.0 photos/s, 5 s left; all batches 90 of 400, 2.0 photos/s, " in lines[8]
    assert lines[8].endswith(" left")
    assert "objects 500 of 600, 50.0 objects/s, 1.0 MB/s, 2 s left" in lines[-1]


def test_with_json_progress_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock = FakeClock()
    with Terminal(as_json=True, clock=clock).progress("x") as progress:
        clock.now += 60
        progress("variants", 1, 2)
    assert capsys.readouterr() == ("", "")


def test_the_time_left_of_all_batches_is_the_dashboards_for_the_same_pace() -> None:
    clock = FakeClock()
    journey = Journey({"one": 100, "two": 900}, clock)
    made = []
    for done in range(0, 101, 10):
        journey.told("one", "variants", done, 100)
        if done:
            made.append((datetime.fromtimestamp(clock.now, UTC), 10))
        clock.now += 10
    now = datetime.fromtimestamp(clock.now, UTC)
    left = time_left(900, measure(made, now=now))
    assert left is not None
    assert journey.note().endswith(f"{left.sentence} left")
    journey.ended("one")
    assert (journey.done, journey.total) == (100, 1000)


def test_what_an_earlier_run_had_made_does_not_count_as_pace() -> None:
    clock = FakeClock()
    journey = Journey({"one": 100}, clock)
    journey.told("one", "variants", 90, 100)
    clock.now += 60
    assert (journey.done, journey.note()) == (90, "")


@pytest.mark.parametrize(("seconds", "text"), [(25, "25 s"), (240, "4 min"), (9_000, "2.5 h")])
def test_times_are_told_in_the_unit_that_people_use(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, True),
        pytest.param({"NO_COLOR": "1"}, False, marks=pytest.mark.slow),
        pytest.param({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, marks=pytest.mark.slow),
        pytest.param({"TERM": "dumb"}, False, marks=pytest.mark.slow),
        pytest.param({"CLICOLOR": "0"}, False, marks=pytest.mark.slow),
    ],
)
def test_a_terminal_gets_colours_unless_somebody_minds(env: dict[str, str], coloured: bool) -> None:
    with TerminalRun("helpers", "copy", "vue", "/nowhere", env=env) as ran:
        assert ran.ended() == 2
    assert "photo-pipeline: " in ran.text
    assert ("\x1b[" in ran.raw) is coloured


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({"FORCE_COLOR": "1"}, True),
        pytest.param({}, False, marks=pytest.mark.slow),
        pytest.param({"CLICOLOR_FORCE": "1"}, True, marks=pytest.mark.slow),
    ],
)
def test_a_pipe_gets_colours_only_if_asked(env: dict[str, str], coloured: bool) -> None:
    ran = piped("init", "--preset", "nothing", env=env)
    assert ran.returncode == 2
    assert (b"\x1b[" in ran.stderr) is coloured


def piped(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(
        [PROGRAM, *arguments], env=clean | env, capture_output=True, stdin=subprocess.DEVNULL, check=False
    )


@pytest.mark.slow
def test_a_locale_without_letters_never_crashes_and_json_stays_whole(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    site.migrate()
    site.execute("UPDATE pp_batch SET error = 'Größe “1 MB”'")
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    text, document = piped("status", env=env), piped("status", "--json", env=env)
    assert (text.returncode, document.returncode) == (0, 0), text.stderr + document.stderr
    assert rb"Gr\xf6\xdfe" in text.stdout
    assert json.loads(document.stdout)["batches"][0]["error"] == "Größe “1 MB”"


def test_a_migration_in_a_terminal_shows_bars_with_rates_and_leaves_the_result(make_site: MakeSite) -> None:
    make_site(photos=6, batch_size=3)
    with TerminalRun("migrate") as ran:
        ran.wait_for(r"batch-000001: variants")
        ran.wait_for(r"all batches")
        ran.wait_for(r"batch-000002: completed in ")
        assert ran.ended() == 0
    assert "\x1b[?25l" in ran.raw, "the cursor is hidden while bars are drawn"
    assert ran.raw.count("\x1b[?25l") == ran.raw.count("\x1b[?25h"), "and shown again"
    assert ran.text.rstrip().endswith("Next: photo-pipeline status | validate | rollback --all")


@pytest.mark.slow
def test_status_fits_a_terminal_of_40_columns(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    site.migrate()
    with TerminalRun("status", columns=40) as ran:
        assert ran.ended() == 0
    assert "batch-000001" in ran.text
    assert "…" not in ran.text


# --- status --watch


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, servers: RunningServers) -> Iterator[Site]:
    """A migrated site that these tests only look at, or pause."""
    with standing_site(tmp_path_factory.mktemp("watched"), servers, photos=2) as site:
        site.migrate()
        yield site


def pause(site: Site) -> None:
    with site.project() as project:
        control.pause(project.database, reason="lunch", run="a test")


def resume(site: Site) -> None:
    with site.project() as project:
        control.resume(project.database, reason="", run="a test")


def test_watching_in_a_terminal_redraws_in_place_and_ends_well_by_ctrl_c(watched: Site) -> None:
    with TerminalRun("status", "--watch", "--interval", "0.1", columns=80) as ran:
        ran.wait_for(r"Done\. All 2 photos are migrated")
        pause(watched)
        try:
            ran.wait_for(r"Paused by .*lunch")
        finally:
            resume(watched)
        seen = ran.text.count("Done. All")
        ran.wait_for(rf"(?s)(Done\. All.*){{{seen + 1}}}")
        ran.interrupt()
        assert ran.ended() == 0
    assert "\x1b[1A" in ran.raw, "the cursor goes up, to draw over the last screen"
    assert "Stopped watching" in ran.text
    assert "Traceback" not in ran.text


@pytest.mark.slow
def test_watching_through_a_pipe_says_a_line_when_something_changed(watched: Site) -> None:
    with subprocess.Popen(
        [PROGRAM, "status", "--watch", "--interval", "0.1"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            pause(watched)
            second = process.stdout.readline()
        finally:
            resume(watched)
        third = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert process.stdout.read() == ""
    assert "Done. All 2 photos are migrated" in first
    assert "2 of 2 photos migrated." in first
    assert ("lunch" in second, "Done." in third) == (True, True)


class Enough(KeyboardInterrupt):
    """Ctrl-C, pressed by a test instead of waiting."""


def test_watching_with_json_gives_a_document_per_line(
    watched: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds = iter([lambda: None, lambda: pause(watched), lambda: resume(watched)])

    def wait(_seconds: float) -> None:
        act = next(rounds, None)
        if act is None:
            raise Enough
        act()

    with watched.project() as project:
        assert watch(project, Terminal(as_json=True), interval_s=1, wait=wait) == 0
    out, err = capsys.readouterr()
    kinds = [json.loads(line)["standing"]["kind"] for line in out.splitlines()]
    assert (kinds, err) == (["done", "paused", "done"], "")


def test_watching_outlives_a_database_that_goes_away(
    make_site: MakeSite, postgres: PostgresServer, capsys: pytest.CaptureFixture[str]
) -> None:
    site = make_site(photos=1, database="postgres")
    name = sa.make_url(site.url).database
    rounds = iter([False, True])

    def wait(_seconds: float) -> None:
        allowed = next(rounds, None)
        if allowed is None:
            raise Enough
        postgres.allow_connections(name, allowed=allowed)

    with site.project() as project:
        assert watch(project, Terminal(), interval_s=1, wait=wait) == 0
    before, away, after = capsys.readouterr().out.splitlines()
    assert "Nothing has been inventoried" in before
    assert "the database in $APP_DATABASE_URL" in away
    assert "Nothing has been inventoried" in after


@pytest.mark.parametrize("width", [40, 80])
def test_the_screen_fits_and_names_every_batch_in_full(watched: Site, width: int) -> None:
    out = io.StringIO()
    with watched.project() as project:
        state = LiveReader(project.database, project.config).read()
    (batch,) = batch_list(watched)
    state = replace(state, listed=(batch,), events=state.events[:2])
    Console(file=out, width=width).print(view_of(state, "the database: it does not answer.", width))
    assert max(map(len, out.getvalue().splitlines())) <= width
    assert "batch-000001" in out.getvalue()
    assert "the database: it does not answer." in out.getvalue()


def batch_list(site: Site) -> list[LiveBatch]:
    with site.project() as project, project.database.read() as connection:
        return BatchBoard().read(connection, utc_now())
