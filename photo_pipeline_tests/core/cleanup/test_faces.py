"""Clean-up and deletion as people reach them: the commands, their exit codes, and the jobs."""

import json
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from photo_pipeline.cli.program import app
from photo_pipeline.definitions import defs
from photo_pipeline_tests.core.cleanup.conftest import AT_ONCE, MakeMigrated, files_of, trash_of


def run(*words: str) -> tuple[int, Any]:
    """Run a command with --json; return its exit code and document."""
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.stdout, (result.exception, result.stderr)
    return result.exit_code, json.loads(result.stdout)


def run_job(name: str, op: str, **config: Any) -> dict[str, Any]:
    """Run a job; return its op's metadata."""
    result = defs.resolve_job_def(name).execute_in_process(run_config={"ops": {op: {"config": config}}})
    (output,) = [each for each in result.all_events if each.is_successful_output]
    data = output.event_specific_data
    assert isinstance(data, dg._core.events.StepOutputData)  # type: ignore[attr-defined]
    return {name: value.value for name, value in data.metadata.items()}


def test_the_commands_of_the_clean_up(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=2, cleanup=AT_ONCE)
    before = files_of(site)
    code, plan = run("cleanup")
    assert (code, plan["applied"], plan["files"]["due"]["files"]) == (0, False, 2)
    assert files_of(site) == before
    code, done = run("cleanup", "--apply")
    assert (code, done["files"]["trashed"]["files"]) == (0, 2)
    assert run("cleanup", "--undo")[0] == 2, "it has to be said what"
    code, back = run("cleanup", "--undo", "--all")
    assert (code, len(back["restored"])) == (0, 2)
    assert files_of(site) == before
    site.configure(store=site.settings["store"] | {"originals": "discard"})
    code, error = run("cleanup", "--apply")
    assert (code, error["error"]) == (3, "GuardRefusedError")


@pytest.mark.slow
def test_a_reader_sees_what_would_go_and_how_to_do_it(make_copied: MakeMigrated) -> None:
    make_copied(photos=2)
    text = CliRunner().invoke(app, ["cleanup"]).stdout
    assert "due" in text
    assert "photo-pipeline cleanup --apply" in text


def test_code_that_refers_to_the_local_folders_is_found(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=1)
    code = site.home / "code"
    (code / "node_modules").mkdir(parents=True)
    (code / "views.py").write_text("import os\nPATH = '/uploads/' + name\n")
    (code / "node_modules/other.js").write_text("'/uploads/'")
    (code / "picture.bin").write_bytes(b"\0/uploads/")
    exit_code, found = run("cleanup", "--scan-code", str(code))
    assert exit_code == 1
    assert [(each["line"], each["names"]) for each in found["references"]] == [(2, "/uploads")]
    (code / "views.py").write_text("nothing\n")
    assert run("cleanup", "--scan-code", str(code))[0] == 0


def test_the_job_of_the_clean_up_is_a_dry_run_unless_told(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=2)
    assert run_job("local_cleanup", "clean_up_local_files")["due"] == 2
    assert (len(files_of(site)), trash_of(site)) == (2, [])
    assert run_job("local_cleanup", "clean_up_local_files", dry_run=False)["trashed"] == 2
    assert files_of(site) == {}


def test_the_commands_of_a_deletion(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=2)
    before = site.dump()
    assert run("delete")[0] == 2, "nothing was named"
    code, plan = run("delete", "--entity", "item/0")
    assert (code, len(plan["rows"]), len(plan["objects"])) == (0, 2, 14)
    assert site.dump() == before
    assert run("delete", "--entity", "item/0", "--confirm", "0" * 32)[0] == 3
    code, done = run("delete", "--entity", "item/0", "--confirm", plan["token"])
    assert (code, done["objects"], done["can_be_undone"]) == (0, {"done": 14}, True)
    code, undone = run("delete", "--undo", plan["token"])
    assert (code, undone["rows"], undone["left"]) == (0, 2, {})
    assert site.dump() == before


@pytest.mark.slow
def test_the_job_of_a_deletion_plans_and_then_confirms(make_migrated: MakeMigrated) -> None:
    site = make_migrated(photos=1)
    plan = run_job("delete_photos", "delete_planned_photos", photos=[1])
    assert (plan["objects"], site.states()) == (7, {"migrated": 1})
    done = run_job("delete_photos", "delete_planned_photos", photos=[1], confirm=plan["token"])
    assert (done["objects"], site.states()) == (7, {"deleted": 1})


@pytest.mark.parametrize("words", [["cleanup", "--apply", "--undo"], ["delete", "--entity", "nonsense"]])
def test_what_makes_no_sense_is_a_usage_error(make_copied: MakeMigrated, words: list[str]) -> None:
    make_copied(photos=1)
    assert run(*words)[0] == 2
