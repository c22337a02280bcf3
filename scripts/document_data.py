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

from moslora_xtuner.data.problem_kinds import FAULTS, REMARKS

DOCS = Path(__file__).parents[1] / "docs"
PICTURE = DOCS / "results" / "check.png"


def kinds() -> str:
    """Markdown."""
    lines = ["| fault | what to do |", "|---|---|", *(f"| {kind} | {remedy} |" for kind, remedy in FAULTS.items())]
    lines += ["", "| remark | |", "|---|---|", *(f"| {kind} | {what} |" for kind, what in REMARKS.items())]
    return "\n".join(lines).replace("<image>", "`<image>`")


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
