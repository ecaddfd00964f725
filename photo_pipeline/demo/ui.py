"""`make ui`: Dagster's web server and daemon on the demo, with the embedded servers beside it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from photo_pipeline.core.config import CONFIG_ENV
from photo_pipeline.demo.run import dagster_home
from photo_pipeline.demo.site import DemoSite


def serve_ui(site: DemoSite, *, host: str, port: int) -> int:
    """Run `dagster dev` on the site until it ends or is interrupted; return its exit code."""
    environment = os.environ | {
        CONFIG_ENV: str(site.config),
        "DAGSTER_HOME": str(dagster_home()),
        # The console script's own interpreter, also where .venv is not activated.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    target = (
        ["-w", "workspace.yaml"] if Path("workspace.yaml").is_file() else ["-m", "photo_pipeline.definitions"]
    )
    command = [sys.executable, "-m", "dagster", "dev", *target, "-h", host, "-p", str(port)]
    # `dagster dev` started with SIGINT ignored (as `&` in a script does) could not be stopped at all.
    process = subprocess.Popen(command, env=environment, preexec_fn=_restore_interrupt)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: process.send_signal(signal.SIGTERM))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # The terminal sent it to Dagster too; wait for its clean end.


def _restore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
