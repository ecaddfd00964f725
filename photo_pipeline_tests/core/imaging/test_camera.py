from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.TiffImagePlugin import IFDRational

from photo_pipeline.core.imaging.camera import CameraFacts, camera_facts


def exif_with(
    taken: object = None, offset: object = None, gps: dict[int, object] | None = None
) -> Image.Exif:
    exif = Image.Exif()
    details = {ExifTags.Base.DateTimeOriginal: taken, ExifTags.Base.OffsetTimeOriginal: offset}
    exif._ifds[ExifTags.IFD.Exif] = {tag: value for tag, value in details.items() if value is not None}
    exif._ifds[ExifTags.IFD.GPSInfo] = gps or {}
    return exif


def gps(latitude: object, north: str, longitude: object, east: str) -> dict[int, object]:
    tags = ExifTags.GPS
    return {
        tags.GPSLatitude: latitude,
        tags.GPSLatitudeRef: north,
        tags.GPSLongitude: longitude,
        tags.GPSLongitudeRef: east,
    }


def test_a_real_photo_names_its_camera_and_its_time(photos: Path) -> None:
    with Image.open(photos / "real" / "drewnoakes_Nikon_D90.jpg") as image:
        facts = camera_facts(image.getexif())
    assert facts.name == "NIKON CORPORATION NIKON D90"
    assert facts.taken_at is not None
    assert facts.taken_at[:2] == "20"


def test_no_exif_gives_no_facts() -> None:
    assert camera_facts(Image.Exif()) == CameraFacts()


@pytest.mark.parametrize(
    ("taken", "offset", "expected"),
    [
        ("2024:05:06 07:08:09", None, "2024-05-06T07:08:09"),
        ("2024:05:06 07:08:09", "+02:00", "2024-05-06T07:08:09+02:00"),
        ("2024:05:06 07:08:09", "nonsense", "2024-05-06T07:08:09"),
        ("0000:00:00 00:00:00", None, None),
        ("    :  :     :  :  ", None, None),
        (17, None, None),
    ],
)
def test_the_time_is_local_unless_the_camera_knew_its_zone(
    taken: object, offset: object, expected: str | None
) -> None:
    assert camera_facts(exif_with(taken, offset)).taken_at == expected


def test_a_place_is_in_degrees_with_the_hemisphere_as_its_sign() -> None:
    south_west = gps((33, 51, IFDRational(3599, 100)), "S", (151.0, 12.0, 36.0), "W")
    facts = camera_facts(exif_with(gps=south_west))
    assert facts.latitude == pytest.approx(-33.8599972)
    assert facts.longitude == pytest.approx(-151.21)


@pytest.mark.parametrize("broken", [(1, 2), (91, 0, 0), (IFDRational(1, 0), 0, 0), ("a", "b", "c"), 12, None])
def test_a_place_that_is_nowhere_is_missing(broken: object) -> None:
    assert camera_facts(exif_with(gps=gps(broken, "N", (0, 0, 0), "E"))).latitude is None


anything = (
    st.none()
    | st.text()
    | st.binary()
    | st.integers()
    | st.tuples(st.integers(), st.integers(), st.integers())
)


@given(taken=anything, offset=anything, place=anything, reference=anything)
def test_any_exif_gives_facts_or_nothing(
    taken: object, offset: object, place: object, reference: str
) -> None:
    facts = camera_facts(exif_with(taken, offset, gps(place, reference, place, reference)))
    assert facts.latitude is None or -90 <= facts.latitude <= 90
