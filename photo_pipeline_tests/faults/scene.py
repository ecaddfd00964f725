"""A small site on which one process after the other works and may be killed: see `stepwise_run`."""

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from photo_pipeline_tests.faults.aftermath import (
    assert_no_row_is_half_written,
    recorded_objects,
    requests,
)
from photo_pipeline_tests.faults.processes import Ended, Runner, kill
from photo_pipeline_tests.faults.stepwise_run import OPERATIONS, Request, work_inline
from photo_pipeline_tests.sites import Site

PHOTOS = 2
# Pictures of a few pixels: making them is real, and takes no time.
VARIANTS = {
    "default": {
        "full": {"fit": "inside", "width": 32, "height": 32},
        "thumb": {"fit": "cover", "width": 16, "height": 16},
    }
}


@dataclass
class Scene:
    """One site, on which a process dies and others carry on."""

    site: Site
    access_log: Path
    runner: Runner
    photos: int = PHOTOS
    before: list[str] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    """How often each object that is recorded as proven was sent until then, at the last look."""

    def run(
        self,
        operation: str,
        *,
        strike_after_s: float | None = None,
        strike: Callable[[int], object] = kill,
        **request: Any,
    ) -> Ended:
        """Do the operation in a process that may die, or be struck after so many seconds."""
        environment = os.environ | {
            "APP_DATABASE_URL": self.site.url,
            "PHOTO_PIPELINE_CONFIG": str(self.site.config_path),
        }
        log = self.site.home / "run.log"
        return self.runner.run(
            asdict(Request(operation, **request)),
            environment=environment,
            log=log,
            strike_after_s=strike_after_s,
            strike=strike,
        )

    def do(self, operation: str) -> None:
        """Do the operation here, by an ordinary run that lives."""
        with self.site.project() as project:
            work_inline(project)
            OPERATIONS[operation](project)

    def look(self) -> None:
        """Right after a death, before anything is mended: no row is half written or shows what is not there.

        And what was recorded as proven before has not been sent again since.
        """
        if not self._has_state():
            return
        assert_no_row_is_half_written(self.site)
        sent = self._puts()
        again = {key: sent[key] for key, count in self.sent.items() if sent[key] > count}
        assert again == {}
        self.sent = {key: sent[key] for key in recorded_objects(self.site)}

    def _puts(self) -> Counter[str]:
        return Counter(key for key, _ in requests(self.site, self.access_log, "PUT"))

    def _has_state(self) -> bool:
        engine = self.site.engine()
        tables = sa.inspect(engine).get_table_names()
        engine.dispose()
        return "pp_rewrite" in tables

    def tail(self) -> str:
        return (self.site.home / "run.log").read_text(encoding="utf-8")[-3000:]


MakeScene = Callable[..., Scene]
