"""Object keys, and the URLs that the CDN serves them under. Pure naming: nothing is requested here."""

from dataclasses import dataclass
from typing import Self

from photo_pipeline.core.config import PipelineConfig


@dataclass(frozen=True)
class UrlScheme:
    """How keys and URLs of one installation are spelled."""

    base_url: str
    prefix: str
    originals_prefix: str

    @classmethod
    def of(cls, config: PipelineConfig) -> Self:
        """Return the scheme that the configuration declares."""
        return cls(config.cdn.base_url, config.store.prefix, config.store.originals_prefix)

    def variant_key(self, sha256: str, recipe: str, variant: str, extension: str) -> str:
        """Return the content-addressed key of one variant (DESIGN, "State")."""
        return f"{self.prefix}/{sha256[:2]}/{sha256}/{recipe}/{variant}.{extension}"

    def original_key(self, sha256: str, extension: str) -> str:
        """Return the key of an untouched original; never served by the CDN."""
        return f"{self.originals_prefix}/{sha256[:2]}/{sha256}.{extension}"

    def url(self, key: str) -> str:
        """Return the CDN URL of a key."""
        return f"{self.base_url}/{key}"

    def is_migrated(self, value: str) -> bool:
        """Return whether a column's value is one of our URLs or keys already."""
        return value.startswith((f"{self.base_url}/{self.prefix}/", f"{self.prefix}/")) and _looks_like_key(
            value.rsplit(f"{self.prefix}/", 1)[-1]
        )

    def is_immutable(self, key: str) -> bool:
        """Return whether the key is a content-addressed one, whose bytes never change."""
        return key.startswith(f"{self.prefix}/") and _looks_like_key(key.removeprefix(f"{self.prefix}/"))

    def may_begin_immutable(self, stem: str) -> bool:
        """Return whether content-addressed keys may begin like that, and every such key is one of ours."""
        if not stem.startswith(f"{self.prefix}/"):
            return False
        first, *later = stem.removeprefix(f"{self.prefix}/").split("/")
        sha256 = later[0] if later else ""
        return (
            _is_hex(first + sha256)
            and len(first) <= 2
            and len(sha256) <= 64
            and len(later) <= 3
            and (not later or (len(first) == 2 and sha256.startswith(first[: len(sha256)])))
            and (len(later) < 2 or len(sha256) == 64)
        )


def _is_hex(text: str) -> bool:
    return all(char in "0123456789abcdef" for char in text)


def _looks_like_key(rest: str) -> bool:
    """Return whether `rest` is `<aa>/<sha256>/<recipe>/<variant>.<ext>`; an app may use our prefix too."""
    parts = rest.split("/")
    if len(parts) != 4 or len(parts[1]) != 64 or parts[0] != parts[1][:2]:
        return False
    return _is_hex(parts[1])
