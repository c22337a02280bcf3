"""Opening images: inside their folder alone, whole, and as RGB."""

from __future__ import annotations

import os
import stat
import struct
import unicodedata
import warnings
from contextlib import suppress
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from PIL import Image

from ...errors import DataError
from ..problem_kinds import Kind

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")
"""What is tried, whatever the file's name: no format whose reader starts another program (EPS)."""
SUFFIXES = {
    "JPEG": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "MPO": {".jpg", ".jpeg", ".mpo"},
    "PNG": {".png", ".apng"},
    "GIF": {".gif"},
    "WEBP": {".webp"},
    "BMP": {".bmp", ".dib"},
    "TIFF": {".tif", ".tiff"},
    "PPM": {".ppm", ".pgm", ".pbm", ".pnm"},
    "AVIF": {".avif"},
}
_EXTENSIONS = sorted({suffix for group in SUFFIXES.values() for suffix in group})
LONGEST_SIDE = 32_768
"""Pixels of a picture's side at most: padded to a square it would be as large as its longer side squared."""
MOST_PIXELS = 1024 * 1024 * 1024 // 4 // 3
"""Pillow's own limit, here: other packages move Pillow's (VLMEvalKit to 1e9 on its import, 3 GB for one picture)."""
UNDECODABLE = (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, MemoryError, OverflowError)
"""What Pillow's readers raise on broken bytes, beside their own types."""
BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""How a picture of each orientation is put upright."""


class ImageFault(DataError):
    """An image that cannot be trained on.

    Attributes:
        detail: what was found.
    """

    def __init__(self, kind: Kind, name: str, detail: str) -> None:
        super().__init__(f"{kind}: {name!r} {detail}")
        self.kind, self.detail = kind, f"{name!r} {detail}"


def locate(root: Path, name: str) -> tuple[str, os.stat_result]:
    """Where an image really is, once it is sure to lie in its folder.

    Raises:
        ImageFault: it is missing, no plain file, empty, or it or a link on the way leads out of the folder.
    """
    try:
        folder, file = os.path.split(os.path.join(root, name))
        real = os.path.join(_real_folder(folder), file)
        # Nothing outside is looked at, not even whether it is there.
        if _within(real, _real_folder(str(root))) and stat.S_ISLNK(os.lstat(real).st_mode):
            real = os.path.realpath(real)
        if not _within(real, _real_folder(str(root))):
            raise ImageFault(Kind.IMAGE_OUTSIDE_THE_FOLDER, name, f"is a link that leaves {root}")
        found = os.stat(real)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageFault(Kind.MISSING_IMAGE, name, f"is not in {root}{_other_name(root, name)}") from None
    except (OSError, ValueError) as fault:
        raise ImageFault(Kind.UNREADABLE_IMAGE, name, f"cannot be opened ({_reason(fault)})") from fault
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        raise ImageFault(Kind.UNREADABLE_IMAGE, name, "is not a plain file")
    if found.st_size == 0:
        raise ImageFault(Kind.ZERO_SIZE_IMAGE, name, "has 0 bytes")
    return real, found


def as_rgb(image: Image.Image) -> Image.Image:
    """An opened image as it is seen: its first frame, upright, over white where it is transparent, in RGB.

    In training and evaluation alike. A camera may store a picture lying and say so in a tag: transformers and vLLM
    turn it. Where a picture is transparent its colours mean nothing and are mostly black: vLLM lays it over white.
    """
    image.load()
    if (turn := _TURNS.get(orientation(image))) is not None:
        image = image.transpose(turn)
    if {"A", "a"} & set(image.getbands()) or "transparency" in image.info:
        over = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", over.size, (255, 255, 255, 255)), over)
    return image.convert("RGB")


def orientation(image: Image.Image) -> int:
    """EXIF's tag of that name, 1 (upright) to 8; 1 where there is none, or none that can be read."""
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # Pillow's parser raises whatever broken bytes lead it to; the picture itself is sound
        return 1


def open_image(root: Path, name: str) -> Image.Image:
    """Decode one image of a folder, and show it as `as_rgb` says.

    Raises:
        ImageFault: the message names the image.
    """
    real, _ = locate(root, name)
    try:
        with opened(real, name) as image:
            return as_rgb(image)
    except UNDECODABLE as fault:
        raise undecodable(name, fault) from fault


def from_bytes(content: bytes, *, draft: bool = False) -> Image.Image:
    """A picture file's content, as `as_rgb` shows it.

    `draft`: of a JPEG all bytes are read and fewer pixels are made, for those who only ask whether it can be read.
    Raises DataError when it is none of FORMATS, broken, or has too many pixels or more than 8 bits.
    """
    try:
        image = checked(BytesIO(content))
        if max(image.size) > LONGEST_SIDE:
            raise DataError(f"not a picture that can be read ({_too_long(image)})")
        if _is_deep(image):
            raise DataError(f"not a picture that can be read (it has pixels of mode {image.mode}: save it with 8 bits)")
        if draft and image.format == "JPEG":
            image.draft(image.mode, (1, 1))
        return as_rgb(image)
    except BOMB as fault:
        raise DataError(f"not a picture that can be read (it would fill the memory: {_reason(fault)})") from fault
    except UNDECODABLE as fault:
        raise DataError(f"not a picture that can be read ({fault})") from fault


def opened(real: str, name: str) -> Image.Image:
    """The image with its header read, after a look at its size and depth.

    Raises:
        ImageFault: its header cannot be read, it has no pixel or too many, or more than 8 bits.
    """
    try:
        image = checked(real)
    except BOMB as fault:
        raise ImageFault(Kind.DECOMPRESSION_BOMB, name, f"would fill the memory ({_reason(fault)})") from fault
    except UNDECODABLE as fault:
        if _without_pixels(real):
            raise ImageFault(Kind.ZERO_SIZE_IMAGE, name, "is 0 pixels wide or high") from fault
        # Pillow's message would tell where the file really lies.
        reason = "no image format that is known" if "cannot identify" in str(fault) else _reason(fault)
        raise ImageFault(Kind.UNREADABLE_IMAGE, name, f"cannot be read ({reason})") from fault
    if max(image.size) > LONGEST_SIDE:
        raise ImageFault(Kind.DECOMPRESSION_BOMB, name, _too_long(image))
    if _is_deep(image):
        raise ImageFault(Kind.SIXTEEN_BIT_IMAGE, name, f"has pixels of mode {image.mode}")
    return image


def checked(source: str | BytesIO) -> Image.Image:
    """An image with its header read; one of more pixels than Pillow warns of is refused, by one of BOMB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(source, formats=_formats())
    if image.width * image.height > MOST_PIXELS:
        raise Image.DecompressionBombError(
            f"Image size ({image.width * image.height} pixels) exceeds limit of {MOST_PIXELS} pixels"
        )
    return image


def _too_long(image: Image.Image) -> str:
    return f"is {image.width} x {image.height}: its square would fill the memory, a side has at most {LONGEST_SIDE:,}"


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;")


def undecodable(name: str, fault: BaseException) -> ImageFault:
    """What Pillow's exception while decoding means."""
    if isinstance(fault, ImageFault):
        return fault
    reason = _reason(fault)
    kind = Kind.TRUNCATED_IMAGE if "truncated" in reason or isinstance(fault, EOFError) else Kind.UNREADABLE_IMAGE
    return ImageFault(kind, name, f"cannot be decoded ({reason})")


@lru_cache(maxsize=4096)
def _real_folder(folder: str) -> str:
    """Where a folder really is. Kept, since one holds many images; the images themselves are looked at every time."""
    return os.path.realpath(folder)


@lru_cache(maxsize=1)
def _formats() -> tuple[str, ...]:
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _within(path: str, root: str) -> bool:
    return path.startswith(root if root.endswith(os.sep) else root + os.sep)


def _without_pixels(real: str) -> bool:
    """Whether a header says so: to Pillow such a file is of no format at all."""
    with suppress(OSError, struct.error), open(real, "rb") as file:
        head = file.read(26)
        for magic, layout, at in ((b"\x89PNG", ">II", 16), (b"GIF8", "<HH", 6), (b"BM", "<ii", 18)):
            if head.startswith(magic):
                return 0 in struct.unpack_from(layout, head, at)
    return False


def _other_name(root: Path, name: str) -> str:
    found = sibling(root, name)
    return f", but {found!r} is" if found else ""


def sibling(root: Path, name: str) -> str | None:
    """Where a missing picture lies under a name that differs in its extension, in case or in Unicode form alone.

    OCR-VQA's are named .jpg in the mix, whatever they are; other systems take `A.JPG` for `a.jpg`, and write an accent
    as a character of its own. None where there is none, or more than one that fits as well.
    """
    here, found = str(root), []
    *folders, last = name.split("/")
    for part in folders:
        if not os.path.lexists(os.path.join(here, part)):
            fitting = [other for other in _alike(here, part) if _form(other) == _form(part)]
            if len(fitting) != 1:
                return None
            (part,) = fitting
        found.append(part)
        here = os.path.join(here, part)
    if not last:
        return None
    stem = os.path.splitext(last)[0]
    fitting = [stem + suffix for suffix in _EXTENSIONS if os.path.isfile(os.path.join(here, stem + suffix))]
    fitting = [last] if last in fitting else fitting
    if not fitting:  # a folder is not listed where another extension alone is enough
        near = [other for other in _alike(here, last) if os.path.isfile(os.path.join(here, other))]
        same = [other for other in near if _form(other) == _form(last)]
        fitting = same or [other for other in near if os.path.splitext(other)[1].lower() in _EXTENSIONS]
    return "/".join([*found, fitting[0]]) if len(fitting) == 1 else None


def _form(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _alike(folder: str, name: str) -> list[str]:
    """What a folder holds under this name, whatever the extension, case or Unicode form."""
    return _by_form(folder).get(_form(os.path.splitext(name)[0]), [])


@lru_cache(maxsize=8)
def _by_form(folder: str) -> dict[str, list[str]]:
    """What a folder holds, kept: a folder of the mix holds 100,000 pictures, and many may be missing."""
    found: dict[str, list[str]] = {}
    with suppress(OSError, ValueError):
        for name in os.listdir(folder):
            found.setdefault(_form(os.path.splitext(name)[0]), []).append(name)
    return found


def _reason(fault: BaseException) -> str:
    return getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
