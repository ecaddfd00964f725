"""Before/after pictures of a sample of migrated photos, as data URIs that need no network.

"Before" is the local original, "after" what the CDN delivers now. Nothing here may break a report: where a
picture cannot be had, a sentence says why.
"""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from PIL import Image

from photo_pipeline.core.catalog.checksums import hash_file
from photo_pipeline.core.catalog.database import Database
from photo_pipeline.core.catalog.tables import PhotoState, photo_table
from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.delivery.cdn import Cdn
from photo_pipeline.core.delivery.urls import UrlScheme
from photo_pipeline.core.errors import DeliveryError, PhotoError
from photo_pipeline.core.imaging.decode import decode, fitting
from photo_pipeline.core.imaging.header import DAMAGE_ERRORS, read_header
from photo_pipeline.core.report.sizes import main_variant

SAMPLE = 12
WIDTH = 480
"""Width of the pictures in the report, in pixels; twelve pairs then take about half a megabyte."""

MAX_SHOWN_PIXELS = 50_000_000
"""Decoded here, not in a worker with a memory limit: 50 megapixels take 150 MB."""

_JPEG_QUALITY = 78
_WEBP_QUALITY = 80
_EXTENSIONS = {"jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif"}


Read = TypeVar("Read")


class NoPictureError(Exception):
    """There is no picture to show; the text is a sentence that says why."""


@dataclass(frozen=True)
class Picture:
    """One side of a comparison. `data_uri` is scaled for the report, `bytes` and the size are the file's.

    `problem` is a sentence, and set where there is no picture to show.
    """

    data_uri: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Comparison:
    """One migrated photo before and after; `url` is what the CDN was asked for."""

    photo_id: int
    source: str
    row_key: str
    path: str
    url: str | None
    format: str
    before: Picture
    after: Picture

    @property
    def saved_share(self) -> float | None:
        """The share of bytes saved, 0 to 1; None where a size is unknown."""
        if not self.before.bytes or self.after.bytes is None:
            return None
        return 1 - self.after.bytes / self.before.bytes


def compare_sample(
    database: Database, config: PipelineConfig, cdn: Cdn, *, limit: int = SAMPLE
) -> tuple[Comparison, ...]:
    """Return before/after pairs of at most `limit` migrated photos; reads local files and the CDN."""
    delivered = Deliveries(config, cdn)
    return tuple(_compare(row, config, delivered) for row in _sample(database, limit))


def _sample(database: Database, limit: int) -> list[Any]:
    """Choose by checksum: as good as at random, and the same photos in every report."""
    photo = photo_table.c
    chosen = (
        sa.select(sa.func.min(photo.id))
        .where(photo.state == PhotoState.MIGRATED, photo.role != "variant", photo.sha256.is_not(None))
        .group_by(photo.sha256)
        .order_by(photo.sha256)
        .limit(limit)
    )
    with database.read() as connection:
        ids = list(connection.execute(chosen).scalars())
        query = sa.select(photo_table).where(photo.id.in_(ids)).order_by(photo.id)
        return list(connection.execute(query))


def _compare(row: Any, config: PipelineConfig, delivered: "Deliveries") -> Comparison:
    url, image_format, accept = delivered.address(row)
    return Comparison(
        photo_id=row.id,
        source=row.source,
        row_key=row.row_key,
        path=row.path,
        url=url,
        format=image_format,
        before=_before(row, config),
        after=delivered.picture(url, accept),
    )


def _before(row: Any, config: PipelineConfig) -> Picture:
    def shrunk(path: Path) -> Picture:
        info = read_header(path, max_pixels=MAX_SHOWN_PIXELS)
        image = decode(path, info, size=fitting(info, WIDTH / info.width))
        return Picture(_shrunk_uri(image, "JPEG"), row.size, info.width, info.height)

    try:
        return read_local(row, config, shrunk)
    except NoPictureError as problem:
        return Picture(bytes=row.size, width=row.width, height=row.height, problem=str(problem))


def read_local(row: Any, config: PipelineConfig, read: Callable[[Path], Read]) -> Read:
    """Return what `read` makes of the local file of a `pp_photo` row.

    Raises:
        NoPictureError: it is gone, is another one now, or cannot be decoded.
    """
    root = next((root for root in config.roots if root.name == row.root), None)
    if root is None:
        raise NoPictureError(f"The configuration no longer has the root {row.root!r}.")
    path = root.dir / row.path
    try:
        if hash_file(path) == row.sha256:
            return read(path)
    except FileNotFoundError as error:
        raise NoPictureError("The local file is gone.") from error
    except OSError as error:
        raise NoPictureError(f"The local file cannot be read ({error.strerror}).") from error
    except PhotoError as error:
        raise NoPictureError(f"The local file cannot be shown: {error.cause}.") from error
    raise NoPictureError("The local file is no longer the one that was migrated.")


class Deliveries:
    """Asks the CDN for photos, and stops asking when it does not answer at all."""

    def __init__(self, config: PipelineConfig, cdn: Cdn) -> None:
        self._config = config
        self._cdn = cdn
        self._urls = UrlScheme.of(config)
        self._silent: str | None = None

    def address(self, row: Any) -> tuple[str | None, str, str]:
        """Return the URL of the row's full-size variant, its format, and the Accept header to send."""
        value = row.new_value or ""
        source = next((each for each in self._config.sources if each.name == row.source), None)
        if source is None or not self._urls.is_migrated(value):
            return None, "", "*/*"
        folder, _, name = value.rpartition("/")
        extension = name.rpartition(".")[2]
        variant = main_variant(dict(self._config.variants[source.preset]))
        # Where the CDN chooses the format, WebP is what any present browser gets at least.
        mime = _EXTENSIONS.get(extension, "image/webp")
        address = f"{folder}/{variant}.{extension}"
        is_url = address.startswith(f"{self._urls.base_url}/")
        return (address if is_url else self._urls.url(address)), mime.removeprefix("image/"), mime

    def picture(self, url: str | None, accept: str) -> Picture:
        """Return what the CDN delivers under `url`."""
        if url is None:
            return Picture(problem="The row's value is no URL of this migration.")
        try:
            return _after(self.fetch(url, accept))
        except NoPictureError as problem:
            return Picture(problem=str(problem))

    def fetch(self, url: str, accept: str) -> bytes:
        """Return the bytes that the CDN delivers under `url`.

        Raises:
            NoPictureError: it delivers none, or did not answer an earlier request.
        """
        if self._silent:
            raise NoPictureError(self._silent)
        try:
            answer = self._cdn.fetch(url, accept=accept)
        except DeliveryError as error:
            self._silent = f"Not fetched: {error.thing}: {error.cause}."
            raise NoPictureError(self._silent) from error
        if answer.status != 200:
            raise NoPictureError(f"The CDN answers HTTP {answer.status}.")
        return answer.body


def _after(body: bytes) -> Picture:
    try:
        with Image.open(BytesIO(body), formats=["JPEG", "WEBP", "AVIF"]) as image:
            size = image.size
            if size[0] * size[1] > MAX_SHOWN_PIXELS:
                return Picture(
                    bytes=len(body), problem="What the CDN delivers has too many pixels to be shown."
                )
            image.load()
            return Picture(_shrunk_uri(image, "WEBP"), len(body), *size)
    except (Image.DecompressionBombError, *DAMAGE_ERRORS):
        return Picture(bytes=len(body), problem="What the CDN delivers is no picture that decodes.")


def _shrunk_uri(image: Image.Image, image_format: str) -> str:
    if image.width > WIDTH:
        height = max(1, round(image.height * WIDTH / image.width))
        image = image.resize((WIDTH, height), Image.Resampling.LANCZOS)
    if image_format == "JPEG":
        return data_uri(_on_white(image), "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return data_uri(image, "WEBP", quality=_WEBP_QUALITY)


def data_uri(image: Image.Image, image_format: str, **options: Any) -> str:
    """Return the picture, encoded with Pillow's `options`, as a URI that needs no network."""
    target = BytesIO()
    image.save(target, image_format, **options)
    encoded = base64.b64encode(target.getvalue()).decode("ascii")
    return f"data:image/{image_format.lower()};base64,{encoded}"


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image.convert("RGB")
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat
