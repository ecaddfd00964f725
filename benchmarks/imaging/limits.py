"""Memory, hostile files and metadata of our own engine: what a single bad photo may cost a batch."""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.imaging.rivals import EXIFTOOL, MissingRivalError
from benchmarks.imaging.runner import Contender, ContenderError, Photo, run

MADE = "made"
POOL_DIED = "pool died"

# What each file of shared/photos/hostile must come to, as in the tests; all others must be made.
_REFUSED = {
    "badcrc.png": "corrupt",
    "bomb144MP.png": "too_large",
    "bomb256MP.jpg": "too_large",
    "bomb400MP.png": "too_large",
    "empty.jpg": "corrupt",
    "svg.jpg": "unsupported_format",
    "text.jpg": "unsupported_format",
    "trunc50.avif": "corrupt",
    "trunc50.jpg": "corrupt",
    "trunc50.png": "corrupt",
    "trunc50.webp": "corrupt",
    "trunc_hdr.jpg": "corrupt",
    "trunc_last2.jpg": "corrupt",
}

# What describes the file or its codec and nothing of the photo. Any tag that is not named here counts as
# metadata: EXIF, XMP, IPTC, ICC_Profile, Photoshop, MPF, MakerNotes, APP segments, comments, and whatever
# is not foreseen. "File:System" is the disk's, "Composite" is derived by exiftool from the others.
_STRUCTURE_GROUPS = {"ExifTool", "Composite"}
_STRUCTURE = {
    "File": {
        "FileType",
        "FileTypeExtension",
        "MIMEType",
        "ImageWidth",
        "ImageHeight",
        "EncodingProcess",
        "BitsPerSample",
        "ColorComponents",
        "YCbCrSubSampling",
    },
    "JFIF": {"JFIFVersion", "ResolutionUnit", "XResolution", "YResolution"},
    "RIFF": {
        "VP8Version",
        "ImageWidth",
        "ImageHeight",
        "HorizontalScale",
        "VerticalScale",
        "WebP_Flags",
        "AlphaPreprocessing",
        "AlphaFiltering",
        "AlphaCompression",
    },
    "QuickTime": {
        "MajorBrand",
        "MinorVersion",
        "CompatibleBrands",
        "HandlerType",
        "PrimaryItemReference",
        "AV1ConfigurationVersion",
        "ChromaFormat",
        "ChromaSamplePosition",
        "ImageSpatialExtent",
        "ImagePixelDepth",
        "MediaDataSize",
        "MediaDataOffset",
        # The codec's colour description (nclx), not an ICC profile.
        "ColorProfiles",
        "ColorPrimaries",
        "TransferCharacteristics",
        "MatrixCoefficients",
        "VideoFullRangeFlag",
        "PixelAspectRatio",
        # How alpha hangs on its picture.
        "AuxiliaryImageType",
        "AuxiliaryImageRef",
    },
}


@dataclass(frozen=True)
class Watched:
    """What one photo cost in a fresh worker.

    Attributes:
        name: The file.
        outcome: MADE, the error type that it would be quarantined with, or POOL_DIED.
        expected: What it should come to.
        wall_s: Seconds from handing it in to its result, the worker's start included.
        cpu_s: The worker's CPU seconds; None when it was killed.
        peak_bytes: The worker's peak resident memory; None when it was killed.
        reason: The error's message.
    """

    name: str
    outcome: str
    expected: str
    wall_s: float
    cpu_s: float | None
    peak_bytes: int | None
    reason: str

    @property
    def refused(self) -> bool:
        """Whether the file is one that must be quarantined."""
        return self.expected != MADE


def watch(ours: Contender, files: Sequence[Path], work: Path) -> list[Watched]:
    """Puts files through our pool, each in a fresh worker."""
    photos = [Photo(f"{number:04}", path) for number, path in enumerate(files)]
    try:
        seen: Mapping[str, Mapping[str, Any]] = run(ours, "watch", photos, work, pinned=False).photos
    except ContenderError as error:
        dead = {
            "outcome": POOL_DIED,
            "wall_s": 0.0,
            "cpu_s": None,
            "peak_bytes": None,
            "reason": str(error),
        }
        seen = {photo.id: dead for photo in photos}
    return [
        Watched(name=photo.path.name, expected=_REFUSED.get(photo.path.name, MADE), **seen[photo.id])
        for photo in photos
    ]


def metadata_tags(files: Iterable[Path], modules: Path, work: Path) -> dict[str, list[str]]:
    """The metadata that exiftool finds in files, as group and tag; files without any are left out.

    Raises:
        MissingRivalError: exiftool does not run, for want of Perl.
    """
    names = work / "exiftool.txt"
    names.write_text("\n".join(str(path) for path in files) + "\n", encoding="utf-8")
    program = modules / "node_modules" / EXIFTOOL / "bin" / "exiftool"
    command = ["perl", str(program), "-json", "-a", "-G0:1", "-@", str(names)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        listing = json.loads(done.stdout)
    except (OSError, json.JSONDecodeError) as error:
        raise MissingRivalError(f"exiftool does not run with perl ({error})") from error
    found = {each["SourceFile"]: [tag for tag in each if not _is_structure(tag)] for each in listing}
    return {name: tags for name, tags in found.items() if tags}


def _is_structure(tag: str) -> bool:
    """Whether a tag ("File:System:FileName", "SourceFile") is none of the photo's."""
    group, _, rest = tag.partition(":")
    place, _, name = rest.rpartition(":")
    if not rest or group in _STRUCTURE_GROUPS or (group, place) == ("File", "System"):
        return True
    return name in _STRUCTURE.get(group, ())
