"""An inventory that reads rows while a batch is being rewritten or rolled back must not undo its states."""

from collections.abc import Callable
from typing import Any

import pytest

from photo_pipeline.core.catalog.reconcile import Reconciler
from photo_pipeline.core.migration.run import migrate_batch, new_run_id, roll_back_batch
from photo_pipeline_tests.conftest import MakeSite
from photo_pipeline_tests.databases import DATABASES, MOSTLY_SQLITE
from photo_pipeline_tests.sites import Site


def meanwhile(monkeypatch: pytest.MonkeyPatch, action: Callable[[], Any]) -> None:
    """Run `action` once, between the inventory's reading of rows and its recording of them."""
    classify = Reconciler._classify
    waiting = [action]

    def classify_then_act(self: Reconciler, *arguments: Any) -> Any:
        findings = classify(self, *arguments)
        if waiting:
            waiting.pop()()
        return findings

    monkeypatch.setattr(Reconciler, "_classify", classify_then_act)


def on_batch(site: Site, operation: Callable[..., Any]) -> None:
    with site.project() as project:
        operation(project, "batch-000001", run=new_run_id())


@DATABASES
def test_a_batch_rewritten_meanwhile_stays_migrated(
    make_site: MakeSite, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=2, database=database)
    before = site.dump()
    with site.project() as project:
        site.inventory(project)
        meanwhile(monkeypatch, lambda: on_batch(site, migrate_batch))
        site.inventory(project)
    assert site.states() == {"migrated": 2}
    site.roll_back()
    assert site.dump() == before


@MOSTLY_SQLITE
def test_a_batch_rolled_back_meanwhile_stays_rolled_back(
    make_site: MakeSite, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(photos=2, database=database)
    site.migrate()
    meanwhile(monkeypatch, lambda: on_batch(site, roll_back_batch))
    with site.project() as project:
        inventory, _ = site.inventory(project)
    assert site.states() == {"rolled_back": 2}
    assert inventory.by_class["matched"] == 2
