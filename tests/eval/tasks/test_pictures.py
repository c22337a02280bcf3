"""Pictures of a row: base64 in any form, files in VLMEvalKit's folders; cut ones are found in every format."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from small_tables import png

from moslora_xtuner.errors import DataError
from moslora_xtuner.eval.tasks import pictures
from moslora_xtuner.eval.tasks.questions import image_bytes

BYTES = png(1)
TEXT = base64.b64encode(BYTES).decode()
LINES = "\n".join(TEXT[start : start + 76] for start in range(0, len(TEXT), 76))


@pytest.mark.parametrize(
    "cell", [TEXT, LINES, f" {TEXT}\r\n", f"data:image/png;base64,{TEXT}", f"['{TEXT}']"],
    ids=["plain", "lines", "blanks", "uri", "list"],
)  # fmt: skip
def test_base64_in_every_form(cell: str) -> None:
    assert pictures.decode(cell) == BYTES
    assert pictures.plain(cell) in (TEXT, cell)
    assert image_bytes({"index": 1, "image": cell}, None, "MME") == BYTES


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (TEXT[:-3], "no base64 text"),
        ("no, picture", "no base64 text"),
        ("data:image/svg+xml,<svg/>", "a data URI without ;base64,"),
        (f"['{TEXT}', '{TEXT}']", "several images"),
        ("[oops]", "begins like a list"),
    ],
)
def test_what_is_none(cell: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        pictures.decode(cell)
    with pytest.raises(DataError, match=f"MME, index 7: the image: .*{said}"):
        image_bytes({"index": 7, "image": cell}, None, "MME")


@pytest.mark.parametrize(
    ("dataset", "folder"),
    [("MME", "MME"), ("MMBench_DEV_EN", "MMBench"), ("MMBench_TEST_CN_V11", "MMBench_V11"), ("OCRVQA_TEST", "OCRVQA")],
)
def test_files_lie_where_vlmevalkit_has_them(dataset: str, folder: str, tmp_path: Path) -> None:
    from vlmeval.dataset.image_base import img_root_map

    assert img_root_map(dataset) == folder
    path = tmp_path / "images" / folder / "a" / "1.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(BYTES)
    assert pictures.locate("a/1.png", tmp_path, dataset) == path
    assert pictures.locate(str(path), None, dataset) == path
    assert pictures.locate("['a/1.png']", tmp_path, dataset) == path
    for name in ("a/2.png", "x" * 5000, "a\0b"):
        with pytest.raises(ValueError, match="does not exist"):
            pictures.locate(name, tmp_path, dataset)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])
def test_whole_and_cut(kind: str) -> None:
    made = BytesIO()
    Image.open(BytesIO(png(2, (120, 90)))).convert("RGB").save(made, kind)
    pictures.check(made.getvalue())
    for left in (len(made.getvalue()) // 2, len(made.getvalue()) - 40):
        with pytest.raises(DataError, match="not a picture that can be read"):
            pictures.check(made.getvalue()[:left])


def test_what_servers_do_not_read_is_made_a_png() -> None:
    made = BytesIO()
    Image.open(BytesIO(BYTES)).save(made, "TIFF")
    found = image_bytes({"index": 1, "image": base64.b64encode(made.getvalue()).decode()}, None, "MME")
    assert found is not None
    assert found.startswith(b"\x89PNG")
    assert Image.open(BytesIO(found)).tobytes() == Image.open(BytesIO(BYTES)).tobytes()
