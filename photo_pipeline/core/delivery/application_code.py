"""The small files that an application's developers copy to show photos, and how they are filled in.

The files themselves are in `application_files/`. Each stands alone or beside its companions, without this
package: an application must not need a migration tool to show its photos.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from photo_pipeline.core.config import PipelineConfig, VariantSettings
from photo_pipeline.core.errors import ConfigurationError

_BEGINNING, _END = "Your site, filled in from photo_pipeline.yaml.\n", "End of your site.\n"


@dataclass(frozen=True)
class Helper:
    """Files for one framework.

    Attributes:
        files: Their names; they belong into one folder.
        purpose: What they are for.
        use: What to do next in the application.
    """

    files: tuple[str, ...]
    purpose: str
    use: str


_JAVASCRIPT: Final = ("photos.js", "photos.d.ts")

APPLICATION_CODE: Final[Mapping[str, Helper]] = {
    "python": Helper(
        ("photos.py",),
        "Python and Jinja: resolve_photo_url(), picture()",
        "from photos import picture, resolve_photo_url",
    ),
    "django": Helper(
        ("photos.py", "photo_tags.py"),
        "Django: {% picture %} and |photo_url",
        "copy into an application's templatetags/, then {% load photo_tags %}",
    ),
    "javascript": Helper(
        _JAVASCRIPT,
        "JavaScript and TypeScript: resolvePhotoUrl(), photoSources()",
        'import { resolvePhotoUrl } from "./photos.js"',
    ),
    "react": Helper(
        (*_JAVASCRIPT, "Photo.jsx", "Photo.d.ts"),
        "React: <Photo>",
        'import { Photo } from "./Photo"',
    ),
    "next": Helper(
        (*_JAVASCRIPT, "photoLoader.js", "photoLoader.d.ts"),
        "Next.js: a loader for next/image",
        'next.config.js: images: { loader: "custom", loaderFile: "./photoLoader.js" }',
    ),
    "page": Helper(
        ("photos-page.js",),
        "A script for pages with picture(): failing photos, placeholders under a strict CSP",
        '<script src="/static/photos-page.js" defer></script>',
    ),
}


def helper_files(name: str, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Return the text of a helper's files, by file name.

    Args:
        name: One of `APPLICATION_CODE`.
        settings: What `site_settings` returns; without them the files keep their example values.

    Raises:
        ConfigurationError: there is no such helper.
    """
    if name not in APPLICATION_CODE:
        raise ConfigurationError(
            f"helper {name!r}",
            cause="there is none of that name",
            fix=f"use one of {', '.join(APPLICATION_CODE)}",
        )
    folder = files(__package__) / "application_files"
    texts = {each: (folder / each).read_text(encoding="utf-8") for each in APPLICATION_CODE[name].files}
    return {each: _filled(text, each, settings) if settings else text for each, text in texts.items()}


def site_settings(config: PipelineConfig, *, preset: str | None = None) -> dict[str, Any]:
    """Return what the files have to know of the site, by the names that they give it.

    Args:
        config: The configuration.
        preset: Whose sizes the application shows; all that the sources use, if None.

    Raises:
        ConfigurationError: there is no such preset, or the sources' presets mean different sizes by one name.
    """
    return {
        "CDN": config.cdn.base_url or "https://cdn.example.com",
        "PREFIX": config.store.prefix,
        "ROOTS": {root.name: _root(root.dir, root.url_prefixes) for root in config.roots},
        "VARIANTS": _boxes(config, preset),
    }


def _root(folder: Path, prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Paths of the web server come before full URLs, since a bare name is shown by the first."""
    urls = sorted(prefixes, key=lambda prefix: not prefix.startswith("/"))
    return {"dir": f"{folder.as_posix().rstrip('/')}/", "urls": urls or [f"/{folder.name}/"]}


def _boxes(config: PipelineConfig, preset: str | None) -> dict[str, list[int]]:
    if preset is not None and preset not in config.variants:
        raise ConfigurationError(
            f"preset {preset!r}",
            cause="the configuration has none of that name",
            fix=f"use one of {', '.join(sorted(config.variants))}",
        )
    used = dict.fromkeys([preset] if preset else [source.preset for source in config.sources])
    boxes: dict[str, VariantSettings] = {}
    for name in used:
        for variant, box in config.variants[name].items():
            if (boxes.setdefault(variant, box).width, boxes[variant].height) != (box.width, box.height):
                raise ConfigurationError(
                    f"the variant {variant!r}",
                    cause=f"presets {', '.join(used)} mean different sizes by it",
                    fix="say whose sizes to fill in with --preset, and copy the files once for each",
                )
    return {name: [box.width, box.height] for name, box in boxes.items() if box.fit == "inside"}


def _filled(text: str, name: str, settings: Mapping[str, Any]) -> str:
    if _BEGINNING not in text:
        return text
    before, _, rest = text.partition(_BEGINNING)
    _, _, after = rest.partition(_END)
    comment, line = ("# ", "{} = {}\n") if name.endswith(".py") else ("// ", "export const {} = {};\n")
    if name.endswith(".js"):
        settings = {**settings, "ROOTS": _without_folders(settings["ROOTS"])}
    lines = "".join(
        line.format(key, json.dumps(value, ensure_ascii=False)) for key, value in settings.items()
    )
    return f"{before}{_BEGINNING}{lines}{comment}{_END}{after}"


def _without_folders(roots: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the roots as browsers may know them: where a server keeps its files is not for them."""
    return {name: {**root, "dir": ""} for name, root in roots.items()}
