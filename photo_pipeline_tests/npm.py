"""Packages of npm for the tests of JavaScript, installed once into a folder that git does not see."""

import fcntl
import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

_WANTED = Path(__file__).with_name("browser") / "javascript"
_KEPT = Path(__file__).resolve().parents[1] / ".photo_pipeline" / "node"


def installed(name: str) -> Path:
    """Return `node_modules` with what `browser/javascript/<name>` locks, or skip and say why not."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("no `npm` on the PATH: the JavaScript cannot be run with its framework")
    lock = _WANTED / name / "package-lock.json"
    folder = _KEPT / f"{name}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # Another worker may be installing them.
        if not (folder / ".complete").exists():
            _install(npm, lock.parent, folder)
            (folder / ".complete").touch()
    return folder / "node_modules"


def _install(npm: str, wanted: Path, folder: Path) -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(wanted / name, folder)
    # Without scripts: what these packages need to run is in them.
    command = [
        npm,
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--fetch-retries=1",
        "--omit=optional",
    ]
    if wanted.name == "react":
        command.remove("--omit=optional")  # esbuild's program is one.
    try:
        ran = subprocess.run(
            command, cwd=folder, capture_output=True, encoding="utf-8", timeout=240, check=False
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm could not install the packages in 240 s")
    if ran.returncode != 0:
        pytest.skip(
            f"npm could not install the packages: {(ran.stderr.strip() or 'no reason given').splitlines()[0]}"
        )
