"""A picture small enough to stand in a page: as a data URI, so that the page loads nothing from elsewhere."""

from __future__ import annotations

import base64
from io import BytesIO

LONGEST_SIDE = 320


def data_uri(content: bytes | None, longest: int = LONGEST_SIDE) -> str:
    """The picture as a data URI, at most `longest` pixels wide and high; "" for no picture.

    Raises OSError or ValueError (as Pillow does) when the bytes are no picture.
    """
    if content is None:
        return ""
    from PIL import Image

    image = Image.open(BytesIO(content)).convert("RGB")
    small = max(image.size) <= longest
    image.thumbnail((longest, longest))
    target = BytesIO()
    image.save(target, "PNG" if small else "JPEG")
    text = base64.b64encode(target.getvalue()).decode()
    return f"data:image/{'png' if small else 'jpeg'};base64,{text}"
