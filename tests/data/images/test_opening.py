"""Images are opened inside their folder alone, and every broken one is named by what is wrong with it."""

from __future__ import annotations

import os
import struct
import unicodedata
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from moslora_xtuner.data.images.check import examine
from moslora_xtuner.data.images.opening import LONGEST_SIDE, ImageFault, from_bytes, locate, open_image, sibling
from moslora_xtuner.errors import DataError


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    name = "a.jpg" if mode == "CMYK" else "a.png"
    picture(8, 8).convert(mode).save(tmp_path / name)
    assert open_image(tmp_path, name).mode == "RGB"


def png(width: int, height: int) -> bytes:
    """The head of a PNG of any size, without its pixels."""

    def block(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = block(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + block(b"IDAT", zlib.compress(b"")) + block(b"IEND", b"")


def jpeg(path: Path) -> bytes:
    picture(64, 48).save(path, "JPEG")
    return path.read_bytes()


def write_bomb(path: Path) -> None:
    path.write_bytes(png(20_000, 20_000))


def write_large(path: Path) -> None:
    """Pillow only warns of this size."""
    path.write_bytes(png(10_000, 10_000))


def write_link(path: Path) -> None:
    outside = path.parent.parent / "outside.png"
    picture(4, 4).save(outside)
    path.symlink_to(outside)


def write_link_folder(path: Path) -> None:
    (path.parent.parent / "elsewhere").mkdir()
    picture(4, 4).save(path.parent.parent / "elsewhere" / "a.png")
    path.symlink_to(path.parent.parent / "elsewhere")


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


FAULTY: dict[str, tuple[str, Callable[[Path], object]]] = {
    "gone.png": ("missing image", lambda path: None),
    "a.png/b.png": ("missing image", lambda path: None),
    "dangling.png": ("missing image", lambda path: path.symlink_to(path.parent / "nowhere.png")),
    "loop.png": ("unreadable image", lambda path: path.symlink_to(path)),
    "text.png": ("unreadable image", lambda path: path.write_text("not a picture")),
    "folder.png": ("unreadable image", lambda path: path.mkdir()),
    "pipe.png": ("unreadable image", lambda path: os.mkfifo(path)),
    "script.eps": (
        "unreadable image",
        lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"),
    ),
    ("x" * 300 + ".png"): ("unreadable image", lambda path: None),
    "empty.jpg": ("zero-size image", lambda path: path.touch()),
    "flat.bmp": ("zero-size image", lambda path: path.write_bytes(bmp(0, 4))),
    "flat.png": ("zero-size image", lambda path: path.write_bytes(png(4, 0))),
    "flat.gif": ("zero-size image", lambda path: path.write_bytes(b"GIF89a" + bytes(7))),
    "cut.jpg": ("truncated image", lambda path: path.write_bytes(jpeg(path)[:-400])),
    "bomb.png": ("decompression bomb", write_bomb),
    "large.png": ("decompression bomb", write_large),
    "deep.png": ("16-bit image", lambda path: Image.fromarray(np.full((4, 4), 9000, np.uint16)).save(path)),
    "float.tif": ("16-bit image", lambda path: Image.fromarray(np.ones((4, 4), np.float32)).save(path)),
    "link.png": ("image outside the folder", write_link),
    "way/a.png": ("image outside the folder", lambda path: write_link_folder(path.parent)),
}


def bmp(width: int, height: int) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + head


@pytest.mark.parametrize("name", FAULTY)
def test_names_what_cannot_be_trained_on(image_root: Path, name: str) -> None:
    """Training's reader and the check's say the same of the same file."""
    kind, write = FAULTY[name]
    write(image_root / name)
    with pytest.raises(ImageFault) as fault:
        open_image(image_root, name)
    assert fault.value.kind == kind
    assert repr(name) in str(fault.value)
    (finding,) = examine(image_root, name)
    assert finding == (kind, finding[1])
    assert repr(name) in finding[1]


def test_a_picture_under_another_extension_is_pointed_at(image_root: Path) -> None:
    ((kind, detail),) = examine(image_root, "deep/b.jpg")
    assert (kind, "but 'deep/b.png' is" in detail) == ("missing image", True)


def test_remarks(image_root: Path) -> None:
    frames = [picture(8, 8, seed) for seed in range(3)]
    frames[0].save(image_root / "film.jpg", "GIF", save_all=True, append_images=frames[1:])
    picture(8, 8).save(image_root / "liar.jpg", "PNG")
    picture(8, 8).convert("CMYK").save(image_root / "print.jpg")
    picture(8, 8).convert("P").save(image_root / "palette.png")
    picture(8, 8).convert("RGBA").save(image_root / "glass.png")
    found = {
        name: [kind for kind, _ in examine(image_root, name)]
        for name in ("a.png", "film.jpg", "liar.jpg", "print.jpg", "palette.png", "glass.png")
    }
    assert found.pop("film.jpg")[:2] == ["wrong extension", "animated image"]
    assert found == {
        "a.png": [],
        "liar.jpg": ["wrong extension"],
        "print.jpg": ["CMYK image"],
        "palette.png": ["palette image"],
        "glass.png": ["image with transparency"],
    }
    # A film's first frame is what is trained on.
    with Image.open(image_root / "film.jpg") as film:
        assert np.array_equal(np.asarray(open_image(image_root, "film.jpg")), np.asarray(film.convert("RGB")))


def test_transparent_places_are_white_whatever_lies_beneath(image_root: Path) -> None:
    """Each way of being transparent, over black: (1 - a) 255 + a c of every channel."""
    plain = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    plain.putpixel((1, 0), (200, 100, 0, 255))
    plain.putpixel((2, 0), (200, 100, 0, 51))
    plain.save(image_root / "colours.png")
    grey = Image.new("LA", (2, 1), (0, 0))
    grey.putpixel((1, 0), (40, 255))
    grey.save(image_root / "grey.png")
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    palette.save(image_root / "palette.png", transparency=0)
    Image.new("RGB", (1, 1), (1, 2, 3)).save(image_root / "key.png", transparency=(1, 2, 3))
    found = {name: np.asarray(open_image(image_root, f"{name}.png"))[0].tolist() for name in ("grey", "palette", "key")}
    assert found == {
        "grey": [[255, 255, 255], [40, 40, 40]],
        "palette": [[255, 255, 255], [10, 20, 30]],
        "key": [[255, 255, 255]],
    }
    first, second, third = np.asarray(open_image(image_root, "colours.png"))[0].tolist()
    assert (first, second, third) == ([255, 255, 255], [200, 100, 0], [244, 224, 204])


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tiff"])
def test_a_picture_is_upright_as_its_tag_says(image_root: Path, turn: int, suffix: str) -> None:
    """Held against Pillow's own exif_transpose, which transformers calls."""
    lying = picture(16, 8)
    exif = Image.Exif()
    exif[0x0112] = turn
    lying.save(image_root / f"lying.{suffix}", exif=exif, **({"lossless": True} if suffix == "webp" else {}))
    with Image.open(image_root / f"lying.{suffix}") as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    assert np.array_equal(np.asarray(open_image(image_root, f"lying.{suffix}")), wanted)
    assert wanted.shape[:2] == ((8, 16) if turn < 5 else (16, 8))
    findings = [kind for kind, _ in examine(image_root, f"lying.{suffix}")]
    assert findings == ([] if turn == 1 else ["turned image"])


def test_a_broken_tag_is_no_tag(image_root: Path) -> None:
    picture(16, 8).save(image_root / "odd.jpg", exif=b"Exif\x00\x00MM\x00*\x00\x00\xff\xff")
    assert open_image(image_root, "odd.jpg").size == (16, 8)
    assert examine(image_root, "odd.jpg") == []


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_cut_anywhere_is_found_though_few_pixels_are_made(tmp_path: Path, progressive: bool) -> None:
    picture(64, 48).save(tmp_path / "a.jpg", progressive=progressive)
    whole = (tmp_path / "a.jpg").read_bytes()
    assert examine(tmp_path, "a.jpg") == []
    for length in range(1, len(whole) - 64, 97):
        (tmp_path / "a.jpg").write_bytes(whole[:length])
        findings = [kind for kind, _ in examine(tmp_path, "a.jpg")]
        assert findings in (["truncated image"], ["unreadable image"])
        with pytest.raises(ImageFault):
            open_image(tmp_path, "a.jpg")


def test_a_link_inside_the_root_and_a_linked_root_are_fine(image_root: Path, tmp_path: Path) -> None:
    (image_root / "link.png").symlink_to(image_root / "deep" / "b.png")
    (tmp_path / "linked").symlink_to(image_root)
    assert open_image(tmp_path / "linked", "link.png").size == (30, 40)
    assert examine(tmp_path / "linked", "link.png") == []


def test_a_folder_beside_the_root_is_outside(image_root: Path) -> None:
    """`images-2` begins with the same letters as `images`."""
    beside = image_root.with_name(image_root.name + "-2")
    beside.mkdir()
    picture(4, 4).save(beside / "a.png")
    (image_root / "way").symlink_to(beside)
    assert [kind for kind, _ in examine(image_root, "way/a.png")] == ["image outside the folder"]


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("deep/A.JPG", "deep/a.jpg"),
        ("Deep/a.jpg", "deep/A.jpg"),
        (unicodedata.normalize("NFD", "café.png"), unicodedata.normalize("NFC", "café.png")),
        (unicodedata.normalize("NFC", "Ärger/é.png"), unicodedata.normalize("NFD", "ärger/é.png")),
        ("a.gif", "a.jpg"),
        ("Deep/A.PNG", "deep/a.jpg"),
    ],
)
def test_a_picture_under_another_form_of_its_name_is_found(tmp_path: Path, there: str, asked: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_bytes(b"")
    assert sibling(tmp_path, asked) == there
    with pytest.raises(ImageFault, match=r"is not in .*, but"):
        locate(tmp_path, asked)


def test_of_several_forms_none_is_taken(tmp_path: Path) -> None:
    for name in ("A.jpg", "a.JPG"):
        (tmp_path / name).write_bytes(b"")
    assert sibling(tmp_path, "a.jpg") is None
    assert sibling(tmp_path, "gone/b.jpg") is None
    for name in ("b.gif", "b.png", "c.txt", ".png"):
        (tmp_path / name).write_bytes(b"")
    assert [sibling(tmp_path, name) for name in ("b.jpg", "c.jpg", "", "deep/")] == [None] * 4


def _png(size: tuple[int, int], mode: str = "1") -> bytes:
    made = BytesIO()
    Image.new(mode, size).save(made, "PNG")
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (_png((20_000, 20_000)), "would fill the memory"),
        (_png((LONGEST_SIDE + 1, 1)), "its square would fill the memory"),
        (_png((2, 2), "I;16"), "save it with 8 bits"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot identify"),
        (_png((9, 9))[:40], "not a picture that can be read"),
    ],
)
def test_bytes_that_are_no_picture_to_be_trusted(content: bytes, why: str) -> None:
    with pytest.raises(DataError, match=why):
        from_bytes(content)
