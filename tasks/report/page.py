"""Filling a template and writing the page: one HTML file that loads nothing from anywhere."""

import base64
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from tasks import places
from tasks.durations import spoken_duration, time_code

WEBP_QUALITY = 85
"""Of pictures on a page: smaller than a face crop's PNG by ten times, and nobody sees it."""

AFTER_SIGN = re.compile(r"(?<=[/_…-])(?=\w)")
"""Where a name may break: browsers break it after few of these signs by themselves."""


def write_page(template: str, html: str | Path, **content: Any) -> None:
    """Fills a template of this package, text escaped, and writes it whole to a path or URI.

    Raises StoreError when the place cannot be written.
    """
    page = _environment().get_template(template).render(**content)
    places.write_bytes(str(html), page.encode())


def data_uri(content: bytes, media_type: str) -> str:
    """The bytes as an address that a page can carry in itself."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def picture_uri(picture: npt.NDArray[np.uint8]) -> str:
    """A picture (H, W, 3) uint8 BGR as WebP inside an address."""
    _, coded = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])
    return data_uri(coded.tobytes(), "image/webp")


def shortened(name: str, longest: int) -> str:
    """A name of at most that many characters: a long one without its middle, as more hangs on its end than on its beginning."""
    if len(name) <= longest:
        return name
    beginning = (longest - 1) // 3
    return f"{name[:beginning]}…{name[beginning + 1 - longest :]}"


def breakable(text: str) -> Markup:
    """A name, a path or a sentence with such, that a page may break after the signs in it which part words."""
    return Markup("<wbr>").join(AFTER_SIGN.split(text))


def short_number(value: float) -> str:
    """A measure with four digits that count; whole numbers with thousands apart."""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4g}"


def percent(share: float) -> str:
    """A share of 1 as a person reads it; what is not all of it is never said to be: "99%" for 0.999."""
    return f"{share:.0%}" if share >= 1 else f"{min(99, round(100 * share))}%"


def spoken_bytes(count: float) -> str:
    """Bytes as a person says them: "812 bytes", "4.2 kB", "1.3 GB"; thousands, as disks are sold."""
    unit, size = "bytes", float(count)
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if size < 1000:
            break
        unit, size = larger, size / 1000
    return f"{size:.0f} {unit}" if unit == "bytes" or size >= 100 else f"{size:.2g} {unit}"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tasks.report"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        duration=spoken_duration,
        time_code=time_code,
        number=short_number,
        percent=percent,
        bytes=spoken_bytes,
        name_of=places.name_of,
        breakable=breakable,
    )
    return environment
