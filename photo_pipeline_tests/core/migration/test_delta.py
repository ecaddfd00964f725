"""The proof of zero delta: the sources are read again until a whole pass finds nothing that is left to do."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from photo_pipeline.cli import app
from photo_pipeline.cli import migrate as migrate_command
from photo_pipeline.core.migration.delta import ZeroDelta, zero_delta
from photo_pipeline.core.migration.run import MigratedBatch, migrate_batch
from photo_pipeline.core.project import Project
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.core.migration.quick import migrated, quick_workers, rolled_back
from photo_pipeline_tests.sites import Site, photo


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Project, "workers", lambda _: quick_workers())


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def migrate(*arguments: str) -> Any:
    return json.loads(command("migrate", "--json", "--sample", "0.01", *arguments).stdout)


def found(document: Any) -> list[tuple[int, ...]]:
    names = ("new", "changed", "gone", "open")
    return [tuple(each[name] for name in names) for each in document["passes"]]


def state_of(site: Site) -> ZeroDelta:
    with site.project() as project:
        return zero_delta(project.database)


def after_each_batch(monkeypatch: pytest.MonkeyPatch, *acts: Callable[[], None]) -> None:
    """Let the application act after the first batch, the second, and so on."""
    left = list(acts)

    def migrate_and_act(*arguments: Any, **options: Any) -> MigratedBatch:
        done = migrate_batch(*arguments, **options)
        if left:
            left.pop(0)()
        return done

    monkeypatch.setattr(migrate_command, "migrate_batch", migrate_and_act)


def add(site: Site, number: int) -> None:
    photo(site.uploads / f"items/{number}.jpg", seed=number)
    site.execute(
        "INSERT INTO item_photos (id, original_url, updated_at) VALUES (:id, :url, '2024-05-01 10:00:00')",
        id=f"new-{number}",
        url=f"/uploads/items/{number}.jpg",
    )


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def test_passes_go_on_while_the_application_adds_and_changes_photos(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    site = make_site(photos=3, database=database)

    def add_and_change() -> None:
        add(site, 7)
        add(site, 8)
        site.execute("UPDATE item_photos SET original_url = '/uploads/items/7.jpg' WHERE alt = 'photo 1'")
        site.execute("DELETE FROM item_photos WHERE alt = 'photo 2'")

    after_each_batch(monkeypatch, add_and_change, lambda: add(site, 9))
    document = migrate()
    assert found(document) == [(3, 0, 0, 3), (3, 0, 2, 3), (1, 0, 0, 1), (0, 0, 0, 0)]
    assert [each["still"] for each in document["passes"]] == [False, False, False, True]
    assert document["zero_delta"]["proven_at"] == document["passes"][-1]["started_at"]
    assert site.execute("SELECT COUNT(*) FROM item_photos WHERE original_url LIKE '/uploads%'") == [(0,)]
    assert site.execute("SELECT COUNT(*), COUNT(finished_at) FROM pp_pass") == [(4, 4)]


def test_a_photo_that_is_new_since_the_proof_takes_it_back(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrate()
    proven = state_of(site)
    assert proven.proven_at is not None
    assert "Zero delta proven at" in proven.sentence
    assert "Zero delta proven at" in command("status").stdout
    assert "Zero delta proven at" in (site.home / "reports/migration_report.html").read_text(encoding="utf-8")
    add(site, 5)
    with site.project() as project:
        site.inventory(project)
    state = state_of(site)
    assert state.proven_at is None
    assert "1 are open now" in state.sentence
    assert found(migrate()) == [(0, 0, 0, 1), (0, 0, 0, 0)]


@pytest.mark.slow
def test_without_a_second_pass_nothing_is_proven(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    document = migrate("--batch", "batch-000001")
    assert found(document) == [(1, 0, 0, 1)]
    assert document["zero_delta"]["proven_at"] is None
    assert "the last pass" in state_of(site).sentence
    assert found(migrate()) == [(0, 0, 0, 0)]
    assert state_of(site).proven_at is not None


@pytest.mark.slow
def test_an_application_that_never_rests_is_not_run_after_for_ever(
    make_site: MakeSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate_command, "MAX_PASSES", 3)
    site = make_site(photos=1)
    numbers = iter(range(10, 99))
    after_each_batch(monkeypatch, *(lambda: add(site, next(numbers)) for _ in range(20)))
    document = migrate()
    assert found(document) == [(1, 0, 0, 1), (1, 0, 0, 1), (1, 0, 0, 1)]
    assert document["zero_delta"]["proven_at"] is None
    assert "not proven" in document["zero_delta"]["sentence"]


def test_what_cannot_go_on_ends_the_passes_and_is_named(make_site: MakeSite) -> None:
    site = make_site(photos=2)
    (site.uploads / "items/0.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    site.execute("UPDATE item_photos SET thumbnail_url = '/uploads/items/1.jpg' WHERE alt = 'photo 0'")
    site.execute("UPDATE item_photos SET original_url = NULL WHERE alt = 'photo 0'")
    document = migrate()
    assert len(document["passes"]) == 2
    assert document["zero_delta"]["set_aside"] == {"quarantined": 1}
    assert "set aside: 1 quarantined" in document["zero_delta"]["sentence"]


def test_a_rollback_is_said_beside_the_proof(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    migrated(site)
    rolled_back(site)
    document = migrate()
    assert found(document) == [(0, 0, 0, 0)]
    assert "1 rolled back" in document["zero_delta"]["sentence"]


def test_a_first_run_that_is_refused_has_written_nothing(make_site: MakeSite) -> None:
    site = make_site(photos=1)
    site.execute("ALTER TABLE item_photos RENAME TO others")
    assert command("migrate").exit_code == 2
    assert site.execute("SELECT name FROM sqlite_master WHERE name LIKE 'pp_%'") == []
