"""The demo's uploads folder: sample photos with real-life metadata, and the files that cause trouble.

The pixels come from `scenes`; the rows that name these files are made in `application`.
"""

import io
import struct
import unicodedata
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PIL import ExifTags, Image, ImageCms, features

from photo_pipeline.demo.scenes import take_photo, vase_cutout

_FORMATS: Final = {
    ".jpg": ("JPEG", "image/jpeg"),
    ".png": ("PNG", "image/png"),
    ".webp": ("WEBP", "image/webp"),
    ".avif": ("AVIF", "image/avif"),
}
# Stored as the camera's sensor saw it: the viewer must turn it by the EXIF orientation to see it upright.
_STORED_TURN: Final = {
    3: Image.Transpose.ROTATE_180,
    6: Image.Transpose.ROTATE_90,
    8: Image.Transpose.ROTATE_270,
}
_THUMBNAIL_SIDE_PX: Final = 150
_CAMERAS: Final = (("Lumen", "LX-3"), ("Northlight", "N1 Compact"), ("Telephone", "T12 Pro"))


@dataclass(frozen=True)
class DemoPhoto:
    """One good photo in the uploads folder.

    Attributes:
        path: Relative to the uploads folder, with "/"; Unicode exactly as on disk.
        scene: What is to be seen, a key of `scenes.SCENES`.
        mime_type: By its content.
        width: Upright width in pixels.
        height: Upright height in pixels.
        size_bytes: Size of the file in bytes.
        orientation: EXIF orientation: 1 (stored upright), 3, 6 or 8.
        has_exif: Whether it names a camera and the time it was taken.
        has_gps: Whether its EXIF tells where it was taken.
        thumbnail: The application's own small JPEG of it, relative to the uploads folder; None without one.
    """

    path: str
    scene: str
    mime_type: str
    width: int
    height: int
    size_bytes: int
    orientation: int
    has_exif: bool
    has_gps: bool
    thumbnail: str | None


@dataclass(frozen=True)
class DemoPhotos:
    """The files of the demo by role; all paths are relative to `uploads`.

    Attributes:
        uploads: Absolute path of the uploads folder.
        items: Good photos of the shop's items.
        properties: Good photos under `properties/`.
        avatars: Good photos under `avatars/`.
        duplicates: (copy, original) pairs with the same bytes.
        mislabelled: A PNG called .jpg: fine, once judged by its content.
        corrupt: A JPEG with a valid header, cut in the middle.
        not_an_image: An SVG drawing called .jpg.
        empty: A file of zero bytes.
        missing: Named in the database, not on disk.
        unreferenced: On disk, named by no row.
    """

    uploads: Path
    items: tuple[DemoPhoto, ...]
    properties: tuple[DemoPhoto, ...]
    avatars: tuple[DemoPhoto, ...]
    duplicates: tuple[tuple[str, str], ...]
    mislabelled: str
    corrupt: str
    not_an_image: str
    empty: str
    missing: str
    unreferenced: tuple[str, ...]

    @property
    def good(self) -> tuple[DemoPhoto, ...]:
        """Every good photo, duplicates and the mislabelled one left out."""
        return self.items + self.properties + self.avatars

    @property
    def on_disk(self) -> tuple[str, ...]:
        """Every file in the uploads folder, thumbnails and problem cases included, sorted."""
        thumbnails = [photo.thumbnail for photo in self.good if photo.thumbnail]
        copies = [copy for copy, _ in self.duplicates]
        trouble = [self.mislabelled, self.corrupt, self.not_an_image, self.empty, *self.unreferenced]
        return tuple(sorted([*(photo.path for photo in self.good), *thumbnails, *copies, *trouble]))


@dataclass(frozen=True)
class _Shot:
    """A photo to be taken; size in pixels as displayed."""

    path: str
    scene: str
    width: int
    height: int
    orientation: int = 1
    exif: bool = True
    gps: bool = True
    thumbnail: bool = False
    wide_gamut: bool = False
    grey: bool = False
    cutout: bool = False


# "é" is one code point in the first (NFC) and "e" + accent in the second (NFD, as a Mac writes names).
_CAFE: Final = unicodedata.normalize("NFC", "items/café table.jpg")
_ROSE: Final = unicodedata.normalize("NFD", "items/rosé vase.jpg")

_SHOTS: Final = (
    _Shot("items/mountain-lake.jpg", "alps", 4000, 3000, thumbnail=True),
    _Shot("items/sunset sea.jpg", "sunset sea", 1600, 1067, thumbnail=True),
    _Shot(_CAFE, "still life", 1280, 960, thumbnail=True),
    _Shot(_ROSE, "vase", 900, 1200, gps=False),
    _Shot("items/100% wool scarf.jpg", "scarf", 1200, 900, gps=False, thumbnail=True),
    _Shot("items/sale%20flower.jpg", "flower", 1024, 768),
    _Shot("items/waterfall.jpg", "waterfall", 3000, 4000, orientation=6, thumbnail=True),
    _Shot("items/upside-down-dunes.jpg", "dunes", 1600, 1200, orientation=3),
    _Shot("items/tall-city.jpg", "night city", 900, 1200, orientation=8),
    _Shot("items/clouds.webp", "cloudscape", 1200, 800, exif=False, gps=False),
    _Shot("items/vase-cutout.png", "vase", 600, 800, exif=False, gps=False, cutout=True),
    _Shot("items/grey-fruit.jpg", "still life", 800, 600, gps=False, grey=True),
    _Shot("items/wide-gamut-flower.jpg", "flower", 1000, 1000, wide_gamut=True),
    _Shot("items/hills.avif", "hills", 640, 480, exif=False, gps=False),
    _Shot("items/lights.jpg", "bokeh", 400, 300, exif=False, gps=False, thumbnail=True),
    _Shot("items/picnic-meadow.jpg", "hills", 1920, 1280, thumbnail=True),
    _Shot("properties/12-front.jpg", "house", 4000, 2667),
    _Shot("properties/12-living-room.jpg", "living room", 1200, 900),
    _Shot("properties/14-garden.jpg", "hills", 1024, 683),
    _Shot("properties/14-view.webp", "sunset sea", 1200, 800, exif=False, gps=False),
    _Shot("properties/15-street.jpg", "night city", 800, 533),
    _Shot("avatars/anna.jpg", "portrait", 600, 600),
    _Shot("avatars/ben.png", "portrait", 400, 400, exif=False, gps=False),
    _Shot("avatars/default.jpg", "flower", 400, 400, exif=False, gps=False),
)
_DUPLICATES: Final = (
    ("items/IMG_0001 (1).jpg", "items/sunset sea.jpg"),
    ("items/wool-scarf-copy.jpg", "items/100% wool scarf.jpg"),
)
_DRAWING: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"><circle cx="20" cy="20" r="18"/></svg>\n'
)


def make_photos(folder: Path, *, seed: int = 7) -> DemoPhotos:
    """Writes the sample photos to `folder`/uploads and tells which file plays which part.

    Takes about 10 s on one core. The same seed gives the same bytes; files of an earlier call are
    overwritten, others are left alone.

    Args:
        folder: Where `uploads` is made; created when missing.
        seed: Seed of every random choice.
    """
    uploads = folder.resolve() / "uploads"
    for name in ("items/thumbs", "properties", "avatars"):
        (uploads / name).mkdir(parents=True, exist_ok=True)
    shots = [shot for shot in _SHOTS if not shot.path.endswith(".avif") or features.check("avif")]
    taken = tuple(_take(uploads, shot, seed=seed) for shot in shots)
    for copy, original in _DUPLICATES:
        (uploads / copy).write_bytes((uploads / original).read_bytes())
    photos = DemoPhotos(
        uploads=uploads,
        items=tuple(photo for photo in taken if photo.path.startswith("items/")),
        properties=tuple(photo for photo in taken if photo.path.startswith("properties/")),
        avatars=tuple(photo for photo in taken if photo.path.startswith("avatars/")),
        duplicates=_DUPLICATES,
        mislabelled="items/screenshot.jpg",
        corrupt="items/cut-off.jpg",
        not_an_image="items/logo.jpg",
        empty="items/empty.jpg",
        missing="items/deleted-last-year.jpg",
        unreferenced=("items/forgotten draft.jpg", "properties/old-brochure.png"),
    )
    _write_trouble(photos, seed=seed)
    return photos


def _write_trouble(photos: DemoPhotos, *, seed: int) -> None:
    uploads = photos.uploads
    small = take_photo("alps", width=640, height=480, seed=seed + 100)
    small.save(uploads / photos.mislabelled, "PNG")
    whole = (uploads / "items/picnic-meadow.jpg").read_bytes()
    (uploads / photos.corrupt).write_bytes(whole[: len(whole) // 2])
    (uploads / photos.not_an_image).write_text(_DRAWING, encoding="utf-8")
    (uploads / photos.empty).write_bytes(b"")
    # A demo folder may be made twice; a file that came back would no longer be missing.
    (uploads / photos.missing).unlink(missing_ok=True)
    for number, name in enumerate(photos.unreferenced):
        image = take_photo("cloudscape", width=480, height=320, seed=seed + 200 + number)
        image.save(uploads / name, _FORMATS[Path(name).suffix][0])


def _take(uploads: Path, shot: _Shot, *, seed: int) -> DemoPhoto:
    # Seeded by its name: a photo added to the list leaves the others as they are.
    seed += zlib.crc32(shot.path.encode())
    image = take_photo(shot.scene, width=shot.width, height=shot.height, seed=seed)
    thumbnail = _write_thumbnail(uploads, shot, image) if shot.thumbnail else None
    if shot.cutout:
        image.putalpha(vase_cutout(shot.width, shot.height))
    if shot.grey:
        image = image.convert("L")
    target = uploads / shot.path
    _write(target, image, shot, seed=seed)
    return DemoPhoto(
        path=shot.path,
        scene=shot.scene,
        mime_type=_FORMATS[target.suffix][1],
        width=shot.width,
        height=shot.height,
        size_bytes=target.stat().st_size,
        orientation=shot.orientation,
        has_exif=shot.exif,
        has_gps=shot.gps,
        thumbnail=thumbnail,
    )


def _write(target: Path, image: Image.Image, shot: _Shot, *, seed: int) -> None:
    options: dict[str, Any] = {}
    if shot.wide_gamut:
        profile = _display_p3()
        to_p3 = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        converted = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), to_p3)
        # None only when converting in place, which is not asked for.
        image = converted if converted is not None else image
        options["icc_profile"] = profile
    if shot.exif:
        options["exif"] = _exif(shot, seed=seed)
    if shot.orientation in _STORED_TURN:
        image = image.transpose(_STORED_TURN[shot.orientation])
    kind = _FORMATS[target.suffix][0]
    by_kind = {
        "JPEG": {"quality": 90},
        "WEBP": {"quality": 85},
        "AVIF": {"quality": 75, "speed": 8, "max_threads": 1},
    }
    image.save(target, kind, **by_kind.get(kind, {}), **options)


def _write_thumbnail(uploads: Path, shot: _Shot, image: Image.Image) -> str:
    """The small copy that the application itself made when the photo was uploaded."""
    name = f"items/thumbs/{Path(shot.path).stem}.jpg"
    small = image.copy()
    small.thumbnail((_THUMBNAIL_SIDE_PX, _THUMBNAIL_SIDE_PX))
    small.save(uploads / name, "JPEG", quality=80)
    return name


def _exif(shot: _Shot, *, seed: int) -> Image.Exif:
    number = zlib.crc32(str(seed).encode())
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = _CAMERAS[number % len(_CAMERAS)]
    exif[ExifTags.Base.Orientation] = shot.orientation
    details = exif.get_ifd(ExifTags.IFD.Exif)
    month, day, hour = number % 12 + 1, number // 12 % 28 + 1, number // 336 % 24
    details[ExifTags.Base.DateTimeOriginal] = f"2024:{month:02}:{day:02} {hour:02}:15:30"
    if shot.gps:
        place = exif.get_ifd(ExifTags.IFD.GPSInfo)
        place[ExifTags.GPS.GPSLatitudeRef] = "N"
        place[ExifTags.GPS.GPSLatitude] = (46.0, float(number % 60), 12.5)
        place[ExifTags.GPS.GPSLongitudeRef] = "E"
        place[ExifTags.GPS.GPSLongitude] = (8.0, float(number // 60 % 60), 40.25)
    return exif


def _display_p3() -> bytes:
    """A version 2 ICC profile with Display P3's primaries, which ImageCms cannot make, and gamma 2.2."""
    primaries = {b"rXYZ": (0.51512, 0.2412, -0.00105), b"gXYZ": (0.29198, 0.69225, 0.04189),
                 b"bXYZ": (0.1571, 0.06657, 0.78407), b"wtpt": (0.9642, 1.0, 0.8249)}  # fmt: skip
    name = b"Demo wide gamut (P3)"
    tags = {tag: b"XYZ \0\0\0\0" + _fixed(*xyz) for tag, xyz in primaries.items()}
    tags |= {
        tag: struct.pack(">4sxxxxIHxx", b"curv", 1, round(2.2 * 256)) for tag in (b"rTRC", b"gTRC", b"bTRC")
    }
    tags[b"desc"] = struct.pack(">4sxxxxI", b"desc", len(name) + 1) + name + bytes(1 + 78)
    tags[b"cprt"] = b"text\0\0\0\0Public domain\0"
    at = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for tag, body in tags.items():
        table += struct.pack(">4sII", tag, at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    made = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)
    header = (
        struct.pack(">I4xI4s4s4s", at + len(bodies), 0x02400000, b"mntr", b"RGB ", b"XYZ ") + made + b"acsp"
    )
    # 40 is where the rendering intent begins; the illuminant (D50) stands at 68.
    return (header.ljust(68, b"\0") + _fixed(0.9642, 1.0, 0.8249)).ljust(128, b"\0") + table + bodies


def _fixed(*numbers: float) -> bytes:
    """ICC's s15Fixed16 numbers."""
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)
