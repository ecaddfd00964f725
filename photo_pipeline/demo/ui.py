"""`make ui`: Dagster's web server and daemon on the demo, with the dashboard and the servers beside it."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from photo_pipeline.core.config import CONFIG_ENV
from photo_pipeline.core.config.dashboard import DEFAULT_PORT
from photo_pipeline.core.errors import ConfigurationError
from photo_pipeline.demo.run import dagster_home
from photo_pipeline.demo.site import DemoSite


def dashboard_port() -> int:
    """Return the dashboard's usual port, or one that is free where another program has that."""
    for port in (DEFAULT_PORT, 0):
        try:
            return _bound("127.0.0.1", port)
        except OSError:
            continue
    return DEFAULT_PORT  # its own message says what is wrong


def require_free(host: str, port: int) -> None:
    """Refuse to start a second Dagster over another one: two daemons on one instance would launch twice.

    Raises:
        ConfigurationError: the port is taken, or the address is none of this machine's.
    """
    try:
        _bound(host, port)
    except OSError as error:
        raise ConfigurationError(
            f"{host}:{port}",
            cause=f"Dagster cannot be opened there ({error.strerror})",
            fix=f'stop what runs there (another `make ui`?), or use: make ui ARGS="--port {port + 1}"',
        ) from error


def _bound(host: str, port: int) -> int:
    """Return the port that could be bound; 0 asks for any."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def serve_ui(site: DemoSite, *, host: str, port: int, dashboard: int, when_open: Callable[[], None]) -> int:
    """Run the dashboard (on its port of 127.0.0.1) and `dagster dev` until that ends or is interrupted.

    Args:
        site: The prepared demo.
        host: The address that Dagster listens on.
        port: Its port.
        dashboard: The dashboard's port.
        when_open: Called once Dagster answers.

    Returns:
        The exit code of `dagster dev`.
    """
    with _dashboard(site, dashboard):
        return _serve_dagster(site, host, port, when_open)


@contextmanager
def _dashboard(site: DemoSite, port: int) -> Iterator[None]:
    """Run `photo-pipeline serve` meanwhile; it prints its addresses itself."""
    program = [sys.executable, "-m", "photo_pipeline.cli", "--config", str(site.config)]
    process = subprocess.Popen([*program, "serve", "--port", str(port)])
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def _serve_dagster(site: DemoSite, host: str, port: int, when_open: Callable[[], None]) -> int:
    environment = os.environ | {
        CONFIG_ENV: str(site.config),
        "DAGSTER_HOME": str(dagster_home()),
        # The console script's own interpreter, also where .venv is not activated.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    target = (
        ["-w", "workspace.yaml"] if Path("workspace.yaml").is_file() else ["-m", "photo_pipeline.definitions"]
    )
    # Its own lines, one for each look of each sensor, would push the addresses out of sight.
    quiet = ["--log-level", "warning"]
    # It recommends a program that is not installed here.
    python = [sys.executable, "-W", "ignore:Function `dev_command` is superseded"]
    command = [*python, "-m", "dagster", "dev", *target, "-h", host, "-p", str(port), *quiet]
    # `dagster dev` started with SIGINT ignored (as `&` in a script does) could not be stopped at all.
    process = subprocess.Popen(command, env=environment, preexec_fn=_restore_interrupt)
    threading.Thread(target=_wait_until_open, args=(process, host, port, when_open), daemon=True).start()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: process.send_signal(signal.SIGTERM))
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # The terminal sent it to Dagster too; wait for its clean end.


def _wait_until_open(
    process: subprocess.Popen[bytes], host: str, port: int, when_open: Callable[[], None]
) -> None:
    """Call `when_open` once the web server answers; not at all if it ends before."""
    address = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/server_info"
    while process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                break
        except OSError:
            time.sleep(0.5)
    else:
        return
    when_open()


def _restore_interrupt() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
