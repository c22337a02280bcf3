"""Pictures as data URIs: whole for a server, small for a page, which then loads nothing from elsewhere."""

from __future__ import annotations

import base64
from io import BytesIO

LONGEST_SIDE = 320
_SIGNATURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp"}


def image_format(image: bytes) -> str | None:
    """Which of the formats that servers and pages read a file has, by its first bytes; None for another."""
    return next((kind for mark, kind in _SIGNATURES.items() if image.startswith(mark)), None)


def data_uri(image: bytes) -> str:
    """An image file's bytes inside an address. Raises ValueError for a format that servers do not read."""
    kind = image_format(image)
    if kind is None:
        raise ValueError("neither PNG, JPEG, GIF, WebP nor BMP")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def thumbnail(content: bytes | None, longest: int = LONGEST_SIDE) -> str:
    """The picture as a data URI, at most `longest` pixels wide and high; "" for no picture.

    Raises OSError or ValueError (as Pillow does) when the bytes are no picture.
    """
    if content is None:
        return ""
    from moslora_xtuner.data.images.opening import BOMB, as_rgb, checked

    try:
        image = as_rgb(checked(BytesIO(content)))
    except BOMB as fault:
        raise ValueError(str(fault)) from fault
    small = max(image.size) <= longest
    image.thumbnail((longest, longest))
    target = BytesIO()
    image.save(target, "PNG" if small else "JPEG")
    return data_uri(target.getvalue())
