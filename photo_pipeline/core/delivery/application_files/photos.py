"""Shows photos while they move to the CDN, and after: old paths and new URLs alike. Standard library only.

    resolve_photo_url("uploads/cats/7.jpg")                 # "/uploads/cats/7.jpg", as before
    resolve_photo_url("photos/ab/ab12…/9f3c…/full.jpg")     # "https://cdn.example.com/photos/ab/ab12…/full.jpg"
    picture(photo.url, alt=photo.title, width=photo.width, height=photo.height)

A copy from `photo-pipeline helpers copy`; it is yours to change. photos.js does the same in JavaScript.
"""

import json
import re
from html import escape
from typing import Any
from urllib.parse import quote

# Your site, filled in from photo_pipeline.yaml.
CDN = "https://cdn.example.com"
PREFIX = "photos"
ROOTS = {"uploads": {"dir": "", "urls": ["/uploads/"]}}
VARIANTS = {"full": [1200, 1200]}
# End of your site.
# CDN: what new URLs begin with. PREFIX: what object keys begin with.
# ROOTS: folders of old photos; `urls` lead to what is in `dir`, the first one for rows that say a bare name.
# VARIANTS: the boxes (pixels) that whole photos were fitted into; crops, such as thumbnails, are not here.

# The best comes first; every browser shows the last.
TYPES = {"avif": "image/avif", "webp": "image/webp", "jpg": "image/jpeg"}
_NEW = re.compile(r"(.*/([0-9a-f]{2})/\2[0-9a-f]{62}/[^/]+/)([^/?#]+)\.(?:avif|webp|jpg|auto)")
_SCHEME = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:)?//|(?:data|blob|javascript|mailto|about|cid|vbscript):", re.IGNORECASE
)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_PLACEHOLDER = re.compile(r"data:image/[a-z]+;base64,[A-Za-z0-9+/=]+|#[0-9a-fA-F]{6}")


Formats = str | dict[str, dict[str, str]] | None
"""The column written back as `formats_json`: a URL by variant and format, as JSON or parsed."""


class Html(str):
    """Markup that Jinja and Django do not escape again."""

    def __html__(self) -> str:
        return self


def resolve_photo_url(value: object, root: str | None = None, default: str = "") -> str:
    """Return the URL to show for what a row says, or `default` if that shows nothing.

    A full URL stays as it is (http and https only), an object key gets the CDN before it, and anything else
    is an old path: from the web's root, a file's, or relative. `root` names the folder of the latter.
    """
    text = "" if value is None else str(value).strip().replace("\\", "/")
    if not text or _UNSAFE.search(text):
        return default
    if _SCHEME.match(text):
        return _encoded(text) if re.match(r"(https?:)?//", text, re.IGNORECASE) else default
    if text.startswith(f"{PREFIX}/") and _NEW.fullmatch(text):
        return f"{CDN}/{text}"
    if ".." in text.split("/"):
        return default
    # A name may have a # in it; what an old path says after a ? is a query.
    return _encoded(_old_url(text, ROOTS[root or next(iter(ROOTS))])).replace("#", "%23")


def picture(
    value: object,
    *,
    alt: str,
    width: int | None = None,
    height: int | None = None,
    sizes: str = "100vw",
    placeholder: str | None = None,
    formats: Formats = None,
    lazy: bool = True,
    inline_style: bool = True,
    fallback: str | None = None,
    root: str | None = None,
    style: str | None = None,
    **attributes: object,
) -> Html:
    """Return `<picture>` with AVIF, WebP and JPEG for a new row, a plain `<img>` for an old one.

    Where a row says nothing that can be shown, the image is `fallback`; without that the markup is empty.

    Args:
        value: What the row says.
        alt: What the photo shows, in words; "" if it only decorates.
        width: Of the file that the row names, in pixels (`write_back`).
        height: The same; with both, the page does not jump when the photo comes.
        sizes: How wide the photo is shown, as in `<img sizes>`.
        placeholder: Shown until the photo is there: a `data:` URI or `#rrggbb` (`write_back`).
        formats: The column written back as `formats_json`, if there is one: which files there are.
        lazy: Load it when it comes near the screen. False for what is seen first.
        inline_style: False where a Content-Security-Policy forbids it; photos-page.js sets the style then.
        fallback: URL shown instead; by photos-page.js also if every file of the photo fails.
        root: As for `resolve_photo_url`.
        style: More inline style.
        attributes: More attributes of the `<img>`, such as class_="card" or data_id=7.
    """
    instead = resolve_photo_url(fallback)
    url = resolve_photo_url(value, root, instead)
    if not url:
        return Html("")
    sources = photo_sources(url, width, height, formats)
    plain = sources.pop() if sources else {"src": url, "srcset": None}
    behind = _background(placeholder)
    styles = [style, behind if inline_style else None]
    image = {
        **{name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()},
        "src": plain["src"],
        "srcset": plain["srcset"],
        "sizes": plain["srcset"] and sizes,
        "alt": alt or "",
        "width": width,
        "height": height,
        "loading": "lazy" if lazy else "eager",
        "fetchpriority": None if lazy else "high",
        "decoding": "async",
        "style": ";".join(filter(None, styles)) or None,
        "data-photo": "" if inline_style else behind or "",
        "data-fallback": instead or None,
    }
    tags = [
        _tag("source", type=each["type"], srcset=each["srcset"] or each["src"], sizes=image["sizes"])
        for each in sources
    ]
    shown = _tag("img", **image)
    return Html(f"<picture>{''.join(tags)}{shown}</picture>" if tags else shown)


def photo_sources(
    url: str, width: int | None = None, height: int | None = None, formats: Formats = None
) -> list[dict[str, str | None]]:
    """Return type, src and srcset of each format of a new URL, the best first; none for any other URL.

    A srcset is None where there is one file only: a crop, or a photo that is smaller than its box.
    """
    new = _NEW.fullmatch(url)
    if not new:
        return []
    stem, _, shown = new.groups()
    files = json.loads(formats) if isinstance(formats, (str, bytes)) else formats
    widths = _widths(shown, width, height, files)

    def file(variant: str, extension: str) -> str:
        known = (files or {}).get(variant, {}).get(TYPES[extension].removeprefix("image/"))
        return known or f"{stem}{variant}.{extension}"

    return [
        {
            "type": TYPES[extension],
            "src": file(shown, extension),
            "srcset": ", ".join(f"{file(name, extension)} {w}w" for w, name in widths) or None,
        }
        for extension in TYPES
    ]


def _widths(
    shown: str, width: int | None, height: int | None, files: dict[str, Any] | None
) -> list[tuple[int, str]]:
    """Return (width in pixels, variant) of the files to choose from, the narrowest first."""
    if shown not in VARIANTS:
        return []  # A crop shows something else than the rest.
    ratio = width / height if width and height else None

    def in_box(name: str) -> int:
        across, down = VARIANTS[name]
        return min(across, int(down * ratio + 0.5)) if ratio else across

    others = {in_box(name): name for name in VARIANTS if name != shown and (files is None or name in files)}
    if (
        width and width < in_box(shown) - 1
    ):  # The photo itself is smaller: all larger boxes hold the same pixels.
        others = {w: name for w, name in others.items() if w < width}
    widths = others | {width or in_box(shown): shown}
    return sorted(widths.items()) if len(widths) > 1 else []


def _old_url(path: str, root: dict[str, Any]) -> str:
    """Return where the web server has an old file that a row names by path."""
    urls: list[str] = root["urls"]
    slashed = path if path.startswith("/") else f"/{path}"
    if root["dir"] and slashed.startswith(root["dir"]):
        return urls[0] + slashed[len(root["dir"]) :]
    if path.startswith("/") or any(slashed.startswith(url) for url in urls):
        return slashed
    return urls[0] + path.removeprefix("./")


def _encoded(url: str) -> str:
    """Return the URL with everything encoded that may not stand in one; what is encoded already stays."""
    return re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", quote(url, safe="%/:?#@!$&'()*+,;=~"))


def _background(placeholder: str | None) -> str | None:
    """Return the style that shows the placeholder; None for anything that is not one."""
    if not placeholder or not _PLACEHOLDER.fullmatch(placeholder):
        return None
    return (
        f"background:{placeholder if placeholder[0] == '#' else f'url({placeholder}) center/cover no-repeat'}"
    )


def _tag(name: str, **attributes: object) -> str:
    """Return a start tag; attributes that are None are left out."""
    written = (f' {key}="{escape(str(value))}"' for key, value in attributes.items() if value is not None)
    return f"<{name}{''.join(written)}>"
