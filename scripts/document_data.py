"""Write the table of docs/data.md (the kinds of problems and what to do about each), and the picture of a report.

python scripts/document_data.py [--check]
python scripts/document_data.py --picture chromium      # the browser's command
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path

from docs.browser_pictures import take
from docs.marked_tables import write_tables
from make_mix_like import make_mix

from moslora_xtuner.data.problem_kinds import FAULTS, REMARKS, Kind

DOCS = Path(__file__).parents[1] / "docs"
PICTURE = DOCS / "results" / "check.png"


RECORDS = {
    Kind.BROKEN_JSON: '{"id": "7" "image": "a.jpg", ...}',
    Kind.NOT_AN_OBJECT: '"a text"',
    Kind.REPEATED_KEY: '{"id": "7", "id": "8", ...}',
    Kind.MISSING_ID: '{"conversations": [...]}',
    Kind.BAD_TEXT: r'{"id": "7\ud83d", ...}',
    Kind.IMAGE_IS_NULL: '{"image": null, ...}',
    Kind.BAD_IMAGE: '{"image": "https://example.org/a.jpg", ...}',
    Kind.TOO_MANY_IMAGES: '{"image": ["a.jpg", "b.jpg"], ...}',
    Kind.UNREAD_MEDIA: '{"audio": "a.wav", ...}',
    Kind.IMAGE_OUTSIDE_THE_FOLDER: '{"image": "../a.jpg", ...}',
    Kind.EMPTY_CONVERSATION: '{"conversations": []}',
    Kind.BAD_MESSAGE: '{"from": "gpt"}',
    Kind.UNKNOWN_ROLE: '{"from": "narrator", "value": "..."}',
    Kind.TURN_ORDER: "two messages of `human` in a row",
    Kind.IMAGE_TOKEN: '`"image": "a.jpg"`, and no `<image>` in the words',
    Kind.EMPTY_ANSWER: '{"from": "gpt", "value": " "}',
    Kind.DUPLICATE_ID: "two records with the id 7",
    Kind.UNUSED_FIELD: '{"model": "gpt-4", ...}',
    Kind.CONTROL_TOKEN: '{"value": "What does <|eot_id|> do?"}',
}
"""An example of each kind that a record shows."""
FILES = {
    Kind.NOT_UTF_8: "a record's text in Latin-1",
    Kind.MISSING_IMAGE: "`a.jpg`, where `A.JPG` is",
    Kind.UNREADABLE_IMAGE: "a web page under the name `a.jpg`",
    Kind.TRUNCATED_IMAGE: "a download that was broken off",
    Kind.ZERO_SIZE_IMAGE: "a file of 0 bytes",
    Kind.DECOMPRESSION_BOMB: "20,000 x 20,000 pixels, or 40,000 x 1",
    Kind.SIXTEEN_BIT_IMAGE: "a PNG of a medical scanner",
    Kind.NO_ANSWER_LEFT: "a question of 2,000 tokens",
    Kind.IMAGE_CUT_OFF: "2,000 tokens before the picture",
    Kind.OVER_LONG_TEXT: "an answer of 2,000 tokens",
    Kind.WRONG_EXTENSION: "a GIF named `a.jpg`",
    Kind.ANIMATED_IMAGE: "a GIF of 12 frames",
    Kind.CMYK_IMAGE: "a JPEG for print",
    Kind.PALETTE_IMAGE: "a GIF, a PNG of 256 colours",
    Kind.IMAGE_WITH_TRANSPARENCY: "a logo",
    Kind.TURNED_IMAGE: "a photograph held upright",
}
"""An example of each kind that only a file, or a tokenizer, shows."""


def example(kind: Kind) -> str:
    """For a cell of the table."""
    text = (RECORDS.get(kind) or FILES[kind]).replace("|", r"\|")  # it stands in a table
    return text if "`" in text or kind in FILES or not text.startswith(("{", '"')) else f"`{text}`"


def kinds() -> str:
    """Markdown."""
    lines = ["| fault | for example | what to do |", "|---|---|---|"]
    # Marks of pictures in running text would be taken for HTML.
    lines += [f"| {kind} | {example(kind)} | {what.replace('<image>', '`<image>`')} |" for kind, what in FAULTS.items()]
    lines += ["", "| remark | for example | |", "|---|---|---|"]
    lines += [f"| {kind} | {example(kind)} | {what} |" for kind, what in REMARKS.items()]
    return "\n".join(lines).replace("\\`<image>`", "`\\<image>`")


def break_some(folder: Path) -> None:
    """Do to a few records and images what happens to them in real life."""
    records = json.loads((folder / "mix.json").read_text())
    pictured = [record for record in records if "image" in record]
    for record in pictured[100:109]:
        (folder / "images" / record["image"]).unlink(missing_ok=True)
    for record in pictured[200:204]:
        path = folder / "images" / record["image"]
        whole = path.read_bytes()
        path.unlink()  # it shares its bytes with others
        path.write_bytes(whole[: len(whole) // 2])
    for record in pictured[300:304]:
        record["conversations"][0]["value"] = record["conversations"][0]["value"].replace("<image>", "").strip()
    for record in pictured[400:402]:
        record["image"] = None
    for record in records[500:502]:
        record["conversations"].pop()
    (folder / "mix.json").write_text(json.dumps(records))


def make_picture(browser: str) -> None:
    """Check a small mix with faults, and take a picture of the report."""
    with tempfile.TemporaryDirectory() as folder:
        mix = Path(folder) / "data"
        make_mix(mix, 3000)
        break_some(mix)
        command = ["moslora", "data", "check", str(mix / "mix.json"), "--images", str(mix / "images")]
        subprocess.run([*command, "-o", f"{folder}/report"], check=False, capture_output=True)
        page = Path(folder) / "report" / "report.html"
        # The images' place on this machine is nobody's business.
        page.write_text(page.read_text().replace(str(mix / "images"), "llava_data"))
        take(browser, page, PICTURE, 1000, 1150)


def main() -> None:
    """Write or check the page, or make the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--picture", metavar="BROWSER", help="only make the picture, with this browser's command")
    args = parser.parse_args()
    if args.picture:
        make_picture(args.picture)
    else:
        write_tables(DOCS / "data.md", {"kinds": kinds}, check=args.check)


if __name__ == "__main__":
    main()
