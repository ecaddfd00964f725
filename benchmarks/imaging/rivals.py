"""The contenders, and how the rivals get onto this machine: into a cache folder, nowhere else.

What cannot be installed is left out with one line that says why.
"""

import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

from benchmarks.imaging.recipes import DEFAULT, RECIPES
from benchmarks.imaging.runner import Contender, Scope
from photo_pipeline.core.imaging.recipe import Effort

_HERE = Path(__file__).parent
EXIFTOOL = "exiftool-vendored.pl"

OURS = "ours"
ORACLE = "oracle"
SECANT = "sharp-secant"
SECANT_PLAIN = "sharp-secant-plain"
STEPPING = "sharp-stepping"
STEPPING_4 = "sharp-stepping-4"
PYVIPS = "pyvips-secant"
MAGICK = "magick-stepping"

_SCOPES: dict[Effort, Scope] = {Effort.BALANCED: "rounds", Effort.SPEED: "once", Effort.QUALITY: "subset"}


class MissingRivalError(Exception):
    """A rival or a tool is not to be had here; the message says what is missing."""


def ours() -> Iterator[Contender]:
    """Each of our recipes; the default one is called OURS alone."""
    command = (sys.executable, "-m", "benchmarks.imaging.ours")
    for name, recipe in RECIPES.items():
        title = OURS if name == DEFAULT else f"{OURS}-{name}"
        note = f"make_variants per photo, effort {recipe.effort}"
        scope = _SCOPES.get(recipe.effort, "once")
        yield Contender(title, command, {"recipe": name}, note, scope)


def oracle() -> Contender:
    """One encode per variant at the quality that our default chose."""
    command = (sys.executable, "-m", "benchmarks.imaging.ours")
    note = "decode, resize, one encode per file at the qualities that ours chose"
    return Contender(ORACLE, command, {"recipe": DEFAULT}, note, "rounds")


def sharp(cache: Path) -> list[Contender]:
    """Installs sharp and returns its methods.

    Raises:
        MissingRivalError: There is no node or npm, or npm failed.
    """
    modules = npm_installed("sharp", cache)
    command = ("node", str(_HERE / "sharp.mjs"))
    stepping = "quality 85, -5 until it fits, everything redone per step, mozjpeg, AVIF effort"
    plain = "the same with sharp's default JPEG (progressive, without mozjpeg's options)"
    methods: tuple[tuple[str, str, int, str, Scope], ...] = (
        (SECANT, "secant", 2, "decode once, secant search, mozjpeg, AVIF effort 2", "rounds"),
        (SECANT_PLAIN, "secant", 2, plain, "once"),
        (STEPPING, "stepping", 2, f"{stepping} 2", "rounds"),
        (STEPPING_4, "stepping", 4, f"{stepping} 4 (sharp's default); the subset only", "subset"),
    )
    return [
        Contender(
            name,
            command,
            {"modules": str(modules), "method": method, "effort": effort, "mozjpeg": name != SECANT_PLAIN},
            note,
            scope,
        )
        for name, method, effort, note, scope in methods
    ]


def pyvips(cache: Path) -> Contender:
    """Installs pyvips into an environment of its own.

    Raises:
        MissingRivalError: pip failed.
    """
    home = cache / "pyvips"
    python = home / "bin" / "python"
    if not (home / "installed").exists():
        venv.create(home, with_pip=True, clear=True)
        _installed([str(python), "-m", "pip", "install", "--quiet", "pyvips", "pyvips-binary"], cwd=home)
        (home / "installed").touch()
    note = "decode once, the same secant search, AVIF effort 2 (4:2:0 below 90), mozjpeg's options"
    return Contender(PYVIPS, (str(python), str(_HERE / "vips.py")), {"effort": 2}, note, "once")


def magick() -> Contender:
    """Finds ImageMagick; it is not installed, for it comes from the system alone.

    Raises:
        MissingRivalError: It is not there, or what bears its name is something else.
    """
    for name in ("magick", "convert"):
        program = shutil.which(name)
        if program is None:
            continue
        said = subprocess.run([program, "-version"], capture_output=True, text=True, check=False).stdout
        if "Version: ImageMagick" in said:
            note = f"{program}: quality 85, -5 until it fits, one process per step"
            settings = {"magick": program, "effort": 2}
            return Contender(MAGICK, (sys.executable, str(_HERE / "magick.py")), settings, note, "subset")
    raise MissingRivalError("not there (neither magick nor ImageMagick's convert is on PATH)")


def npm_installed(package: str, cache: Path) -> Path:
    """Installs an npm package into the cache, once; returns the folder that has node_modules.

    Raises:
        MissingRivalError: There is no node or npm, or npm failed.
    """
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise MissingRivalError(f"{program} is not on PATH")
    home = cache / "node"
    if not (home / "node_modules" / package).exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").touch()
        if not (home / "package.json").read_text(encoding="utf-8"):
            (home / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        _installed(["npm", "install", "--no-audit", "--no-fund", package], cwd=home)
    return home


def _installed(command: list[str], *, cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or [
            f"exit code {done.returncode}"
        ]
        # pip ends with what went wrong; npm begins with it and ends with where its log is.
        said = next((line for line in lines if line.startswith("npm error")), lines[-1])
        raise MissingRivalError(f"`{' '.join(command[:4])} ...` failed: {said}")
