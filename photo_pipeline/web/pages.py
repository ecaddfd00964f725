"""Turns the state into HTML.

Every value may come from a hostile row or file name: jinja2 escapes all of them, and none is marked safe.
"""

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import jinja2

from photo_pipeline.core.config import PipelineConfig
from photo_pipeline.core.report import html as report
from photo_pipeline.core.report.findings import FindingGroup

_FOLDER: Final = Path(__file__).parent
_REPORT_STYLE: Final = Path(report.__file__).with_name("templates") / "style.css"

BATCH_STATES: Final[Mapping[str, str]] = {
    "completed": "every photo is migrated or set aside",
    "running": "under way, or cut off on the way",
    "pending": "not begun",
    "paused": "stopped by a person or the cost guard",
    "failed": "stopped by an error",
    "rolling_back": "going back to local files",
    "rolled_back": "back at local files",
}


def render(template: str, config: PipelineConfig, **values: Any) -> str:
    """Return a page (or a part of one) as HTML."""
    return _environment().get_template(template).render(config=config, batch_meanings=BATCH_STATES, **values)


@cache
def asset(name: str) -> str:
    """Return the page's own style or script; the style begins with the report's, so that both look alike."""
    text = (_FOLDER / "static" / name).read_text(encoding="utf-8")
    return _REPORT_STYLE.read_text(encoding="utf-8") + text if name.endswith(".css") else text


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": lambda value: f"{value:,}",
        "percent": report.percent,
        "size": report.size,
        "row_key": report.row_key,
        "sentence": lambda text: str(text)[:1].upper() + str(text)[1:],
        "words": lambda value: str(value).replace("_", " "),
        "clock": clock,
        "rate": rate,
        "amount": amount,
        "usd": usd,
        "tenth": lambda share: min(10, int(share * 10)),
    }
    environment.globals["next_after"] = next_after
    return environment


def clock(instant: datetime | None, now: datetime) -> str:
    """Return an instant as short as it can be understood, in UTC: the time alone if it is of today."""
    if instant is None:
        return ""
    return f"{instant:%H:%M:%S}" if instant.date() == now.date() else f"{instant:%-d %b %Y, %H:%M}"


def rate(per_second: float | None) -> str:
    """Return photos per second, or per minute where that is less than one a second."""
    if per_second is None:
        return "unknown"
    if per_second < 1:
        return f"{per_second * 60:.1f} a minute"
    return f"{per_second:,.1f} a second" if per_second < 10 else f"{per_second:,.0f} a second"


def usd(value: float) -> str:
    """Return dollars to the cent, and never "$0.00" for what costs something."""
    return "less than $0.01" if 0 < value < 0.005 else f"${value:,.2f}"


def amount(value: float, name: str) -> str:
    """Return an amount of a limit in its unit: dollars, bytes or requests."""
    if name.startswith("usd"):
        return f"${value:,.2f}"
    return report.size(value) if "bytes" in name else f"{value:,.0f}"


def next_after(group: FindingGroup) -> int:
    """Return the id after which the next page of a group begins."""
    return group.findings[-1].photo_id if group.findings else 0
