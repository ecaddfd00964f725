"""Somebody who may write below a root tries to make clean-up and inventory touch what is outside of it.

Each attack is made at the exact moment that suits it best, by hooks on the primitives (`core.beneath`); then
by a process that swaps names as fast as it can. Outside there are files of the same names, sizes and times.
"""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from photo_pipeline.core import beneath
from photo_pipeline.core.beneath import UnsafePathError, parts_of
from photo_pipeline.core.catalog import scan
from photo_pipeline.core.catalog.checksums import hash_matched_files
from photo_pipeline.core.catalog.inventory import take_inventory
from photo_pipeline.core.cleanup import trash
from photo_pipeline.core.errors import GuardRefusedError
from photo_pipeline_tests.core.cleanup.conftest import (
    AT_ONCE,
    MakeMigrated,
    cleaned,
    counts,
    files_of,
    trash_counts,
    trash_of,
    undone,
)
from photo_pipeline_tests.sites import Site


@dataclass
class Outside:
    """A folder beside the root, which nobody may touch."""

    folder: Path

    def state(self) -> list[tuple[Any, ...]]:
        """Everything that touching it would change, but for reading."""
        return [
            (str(path.relative_to(self.folder)), *_status(path), path.read_bytes() if path.is_file() else b"")
            for path in sorted(self.folder.rglob("*"))
        ]


def _status(path: Path) -> tuple[int, ...]:
    info = path.lstat()
    return info.st_mode, info.st_ino, info.st_nlink, info.st_size, info.st_mtime_ns, info.st_ctime_ns


def make_outside(site: Site) -> Outside:
    """Copy the photos' folder, times and all; the contents differ in the last byte."""
    folder = site.home / "outside"
    shutil.copytree(site.uploads / "items", folder / "items")
    for path in (folder / "items").iterdir():
        info = path.stat()
        data = bytearray(path.read_bytes())
        data[-1] ^= 0xFF
        path.write_bytes(data)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    return Outside(folder)


@contextmanager
def watched_reads(monkeypatch: pytest.MonkeyPatch, outside: Outside) -> Iterator[list[str]]:
    """Yield the files outside of which anything is read through the primitives."""
    read: list[str] = []
    pread = os.pread

    def watched(handle: int, size: int, offset: int) -> bytes:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.is_relative_to(outside.folder):
            read.append(str(path))
        return pread(handle, size, offset)

    monkeypatch.setattr(os, "pread", watched)
    yield read
    monkeypatch.setattr(os, "pread", pread)


def swap_for(path: Path, kind: str, outside: Outside) -> None:
    """Put something else in the place of a photo."""
    other = outside.folder / "items" / path.name
    path.rename(path.with_suffix(".aside"))
    if kind == "symlink":
        path.symlink_to(other)
    elif kind == "hard link":
        path.hardlink_to(other)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    elif kind == "folder":
        path.mkdir()
    elif kind == "other file":
        path.write_bytes(b"other")
    else:
        path.symlink_to("/dev/zero")


KINDS = ["symlink", "pipe", "device", "folder", "endless device"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_plain_file_is_neither_opened_nor_moved(make_copied: MakeMigrated, kind: str) -> None:
    """Between the inventory and the move, which is when the clean-up looks at the disk."""
    site = make_copied(photos=1)
    outside = make_outside(site)
    before = outside.state()
    path = site.uploads / "items/0.jpg"
    with at_announcement(lambda: swap_for(path, kind, outside)):
        assert counts(cleaned(site)) == {"not_plain": 1}
    assert outside.state() == before
    assert trash_of(site) == []


def test_a_hard_link_to_a_file_outside_is_kept(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=1)
    (site.home / "linked.jpg").hardlink_to(site.uploads / "items/0.jpg")
    assert counts(cleaned(site)) == {"other_names": 1}
    assert len(files_of(site)) == 1


def test_a_hard_link_is_moved_where_that_is_wanted_and_its_other_name_keeps_the_content(
    make_copied: MakeMigrated,
) -> None:
    site = make_copied(photos=1, cleanup=AT_ONCE | {"hard_links": "move"})
    linked = site.home / "linked.jpg"
    linked.hardlink_to(site.uploads / "items/0.jpg")
    content = linked.read_bytes()
    assert counts(cleaned(site)) == {"trashed": 1}
    assert trash_counts(cleaned(site)) == {"purged": 1}
    assert (linked.read_bytes(), linked.stat().st_nlink) == (content, 1)


def test_two_names_below_the_root_are_kept(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=1)
    (site.uploads / "items/again.jpg").symlink_to("0.jpg")
    assert counts(cleaned(site)) == {"other_names": 1}


@pytest.mark.parametrize("moment", ["before", pytest.param("after", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["symlink", "hard link", "pipe", "folder", "other file"])
def test_a_file_that_is_swapped_around_its_last_look_is_put_back(
    make_copied: MakeMigrated, monkeypatch: pytest.MonkeyPatch, kind: str, moment: str
) -> None:
    """Between the file's last byte that was read, and the rename."""
    site = make_copied(photos=1)
    outside = make_outside(site)
    path = site.uploads / "items/0.jpg"
    really = trash.rename_new if moment == "before" else trash.sha256_of
    swapped: list[tuple[int, ...]] = []

    def hooked(*args: Any) -> Any:
        result = None if moment == "before" else really(*args)
        if not swapped:
            swap_for(path, kind, outside)
            swapped.append(_status(path)[:2])
        return really(*args) if moment == "before" else result

    monkeypatch.setattr(trash, "rename_new" if moment == "before" else "sha256_of", hooked)
    before = [each for each in outside.state() if each[0] != "items/0.jpg"]
    assert counts(cleaned(site)) == {"changed": 1}
    assert [_status(path)[:2]] == swapped, "what was swapped in is where it was put"
    assert trash_of(site) == []
    assert [each for each in outside.state() if each[0] != "items/0.jpg"] == before
    assert (outside.folder / "items/0.jpg").read_bytes() != path.with_suffix(".aside").read_bytes()


def test_control_without_the_look_after_the_rename_what_was_swapped_in_is_taken_for_the_photo(
    make_copied: MakeMigrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_copied(photos=1)
    outside = make_outside(site)
    really = trash.rename_new

    def hooked(*args: Any) -> None:
        swap_for(site.uploads / "items/0.jpg", "symlink", outside)
        really(*args)

    monkeypatch.setattr(trash, "rename_new", hooked)
    known = (site.uploads / "items/0.jpg").stat()
    monkeypatch.setattr(trash, "status_at", lambda *_: known)
    assert counts(cleaned(site)) == {"trashed": 1}


@pytest.mark.parametrize("hook", ["file_at", "sha256_of", "rename_new"])
def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(
    make_copied: MakeMigrated, monkeypatch: pytest.MonkeyPatch, hook: str
) -> None:
    site = make_copied(photos=1)
    outside = make_outside(site)
    before, content = outside.state(), files_of(site)["items/0.jpg"]
    really, done = getattr(trash, hook), []

    def hooked(*args: Any) -> Any:
        if not done:
            done.append(True)
            (site.uploads / "items").rename(site.uploads / "moved")
            (site.uploads / "items").symlink_to(outside.folder / "items")
        return really(*args)

    monkeypatch.setattr(trash, hook, hooked)
    assert counts(cleaned(site)) == {"trashed": 1}
    assert trash_of(site) == [content]
    assert outside.state() == before


def test_a_folder_that_is_a_link_already_is_refused_and_so_is_the_way_back(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=1)
    outside = make_outside(site)
    before = outside.state()

    def swap() -> None:
        (site.uploads / "items").rename(site.uploads / "moved")
        (site.uploads / "items").symlink_to(outside.folder / "items")

    with at_announcement(swap):
        assert counts(cleaned(site)) == {"not_plain": 1}
    (site.uploads / "items").unlink()
    (site.uploads / "moved").rename(site.uploads / "items")
    assert counts(cleaned(site)) == {"trashed": 1}
    swap()
    assert len(undone(site).left) == 1
    assert outside.state() == before


@pytest.mark.parametrize("path", ["../outside/0.jpg", "/etc/passwd", "a/../../b", "a//b", "./a", "a\0b", ""])
def test_a_path_that_leaves_its_folder_is_refused(path: str) -> None:
    with pytest.raises(UnsafePathError):
        parts_of(path)


def test_a_forged_manifest_moves_nothing_out_of_the_root(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=1)
    outside = make_outside(site)
    before = outside.state()
    cleaned(site)
    site.execute("UPDATE pp_trash SET path = '../outside/new.jpg'")
    assert len(undone(site).left) == 1
    assert outside.state() == before
    assert len(trash_of(site)) == 1


@pytest.mark.parametrize("kind", ["symlink", "others may write"])
def test_a_trash_folder_that_is_not_ours_is_refused(make_copied: MakeMigrated, kind: str) -> None:
    site = make_copied(photos=1)
    outside = make_outside(site)
    before = outside.state()
    folder = site.uploads / ".photo_pipeline-trash"
    if kind == "symlink":
        folder.symlink_to(outside.folder)
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(GuardRefusedError, match="trash folder"):
        cleaned(site)
    assert outside.state() == before
    assert len(files_of(site)) == 1


SWAPPED = [pytest.param(each, marks=pytest.mark.slow) for each in ("pipe", "folder", "other file")]


@pytest.mark.parametrize("kind", ["symlink", "hard link", *SWAPPED])
def test_what_is_swapped_in_the_trash_is_not_deleted(make_copied: MakeMigrated, kind: str) -> None:
    site = make_copied(photos=1, cleanup=AT_ONCE)
    outside = make_outside(site)
    cleaned(site)
    (held,) = (site.uploads / ".photo_pipeline-trash").iterdir()
    (outside.folder / "items" / held.name).write_bytes(b"outside")
    swap_for(held, kind, outside)
    before = outside.state()
    assert set(trash_counts(cleaned(site))) <= {"changed", "not_plain"}
    assert outside.state() == before
    assert held.exists() or held.is_symlink()


def test_a_file_that_is_written_to_while_it_is_read_stays(
    make_copied: MakeMigrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By somebody who has it open, behind the reader's back, and sets the time back afterwards."""
    site = make_copied(photos=1)
    path = site.uploads / "items/0.jpg"
    info, really = path.stat(), trash.sha256_of

    def hooked(handle: int) -> str:
        digest = really(handle)
        with path.open("r+b") as stream:
            stream.write(b"!")
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
        return digest

    monkeypatch.setattr(trash, "sha256_of", hooked)
    assert counts(cleaned(site)) == {"changed": 1}
    assert path.is_file()


# --- the inventory


def test_a_file_that_is_swapped_for_a_link_before_it_is_hashed_is_not_read(
    make_copied: MakeMigrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_copied(photos=1)
    outside = make_outside(site)
    with site.project() as project, watched_reads(monkeypatch, outside) as read:
        attack_the_hashing(site, outside, project)
    assert read == []


def test_control_without_the_check_of_where_it_leads_it_is_read(
    make_copied: MakeMigrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_copied(photos=1)
    outside = make_outside(site)
    monkeypatch.setattr(beneath, "require_within", lambda *_: None)
    with site.project() as project, watched_reads(monkeypatch, outside) as read:
        attack_the_hashing(site, outside, project)
    assert len(read) > 0


def attack_the_hashing(site: Site, outside: Outside, project: Any) -> None:
    new = site.uploads / "items/new.jpg"
    shutil.copy2(outside.folder / "items/0.jpg", new)
    shutil.copy2(new, outside.folder / "items/new.jpg")
    site.execute("INSERT INTO item_photos (id, original_url) VALUES ('x', '/uploads/items/new.jpg')")
    take_inventory(project.database, project.config)
    swap_for(new, "symlink", outside)
    assert hash_matched_files(project.database, project.config).failed == 1
    assert site.execute("SELECT sha256, state FROM pp_photo WHERE path = 'items/new.jpg'") == [
        (None, "quarantined")
    ]


def test_a_pipe_in_the_place_of_a_photo_holds_nobody_up(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=1)
    new = site.uploads / "items/new.jpg"
    shutil.copy2(site.uploads / "items/0.jpg", new)
    site.execute("INSERT INTO item_photos (id, original_url) VALUES ('x', '/uploads/items/new.jpg')")
    with site.project() as project:
        take_inventory(project.database, project.config)
        new.unlink()
        os.mkfifo(new)
        assert hash_matched_files(project.database, project.config).failed == 1


def test_a_folder_that_is_swapped_for_a_link_while_it_is_listed_is_not_followed(
    make_copied: MakeMigrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_copied(photos=1)
    make_outside(site)
    assert "secret.jpg" not in names_seen(site, monkeypatch)


def test_control_a_listing_by_name_follows_it(
    make_copied: MakeMigrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_copied(photos=1)
    make_outside(site)

    @contextmanager
    def by_name(root: Any, folder: str) -> Iterator[int]:
        handle = os.open(root.dir / folder, os.O_RDONLY | os.O_DIRECTORY)
        yield handle
        os.close(handle)

    monkeypatch.setattr(scan, "_opened", by_name)
    assert "secret.jpg" in names_seen(site, monkeypatch)


def names_seen(site: Site, monkeypatch: pytest.MonkeyPatch) -> str:
    (site.home / "outside/items/secret.jpg").write_bytes(b"secret")
    really = scan._opened

    @contextmanager
    def hooked(root: Any, folder: str) -> Iterator[int]:
        if folder == "items":
            (site.uploads / "items").rename(site.home / "items.aside")
            (site.uploads / "items").symlink_to(site.home / "outside/items")
        with really(root, folder) as handle:
            yield handle

    monkeypatch.setattr(scan, "_opened", hooked)
    with site.project() as project:
        take_inventory(project.database, project.config)
    return str(site.execute("SELECT path FROM pp_file"))


# --- a process that swaps as fast as it can

SWAPPER = """
import os, sys
items, outside, log = sys.argv[1:]
names = sorted(os.listdir(items))
count = 0
while True:
    for name in names:
        path, aside, link = f"{items}/{name}", f"{items}/.{name}.aside", f"{items}/.{name}.link"
        for make in (lambda p: os.symlink(f"{outside}/items/{name}", p), os.mkfifo,
                     lambda p: os.symlink("/dev/zero", p)):
            try:
                make(link)
                os.rename(path, aside)
                os.rename(link, path)
                os.rename(path, link)
                os.rename(aside, path)
                os.unlink(link)
            except OSError:
                for rest in (link,):
                    try: os.unlink(rest)
                    except OSError: pass
                try: os.rename(aside, path)
                except OSError: pass
        try:
            os.rename(items, items + ".moved")
            os.symlink(f"{outside}/items", items)
            os.unlink(items)
            os.rename(items + ".moved", items)
        except OSError:
            pass
        count += 1
        if count % 50 == 0:
            open(log, "w").write(str(count))
"""


def race(site: Site, *, rounds: int) -> tuple[int, int]:
    """Clean up, undo and inventory while names are swapped; return the numbers of swaps and moved files."""
    outside = make_outside(site)
    before, log = outside.state(), site.home / "swaps"
    arguments = [str(site.uploads / "items"), str(outside.folder), str(log)]
    swapper = subprocess.Popen([sys.executable, "-c", SWAPPER, *arguments])
    moved = 0
    try:
        for _ in range(rounds):
            moved += counts(cleaned(site)).get("trashed", 0)
            undone(site)
            with site.project() as project:
                take_inventory(project.database, project.config)
                hash_matched_files(project.database, project.config, rehash=True)
    finally:
        swapper.send_signal(signal.SIGKILL)
        swapper.wait()
    assert outside.state() == before
    stolen = {bytes(each[-1]) for each in before if each[-1]}
    assert stolen.isdisjoint(trash_of(site))
    return int(log.read_text() or 0) if log.exists() else 0, moved


def test_a_process_that_swaps_names_all_the_time_gets_nothing_outside_touched(
    make_copied: MakeMigrated,
) -> None:
    site = make_copied(photos=4)
    swaps, _ = race(site, rounds=4)
    assert swaps > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_and_not_in_many_rounds(make_copied: MakeMigrated) -> None:
    site = make_copied(photos=8)
    swaps, moved = race(site, rounds=150)
    print(f"{swaps} swaps, {moved} files moved and brought back")
    assert swaps > 1000


@contextmanager
def at_announcement(act: Callable[[], object]) -> Iterator[None]:
    """Let something happen when files are announced, right before the first one is looked at."""
    really = trash.Trash.announce

    def hooked(*args: Any) -> Any:
        result = really(*args)
        act()
        return result

    trash.Trash.announce = hooked  # type: ignore[method-assign]
    try:
        yield
    finally:
        trash.Trash.announce = really  # type: ignore[method-assign]
