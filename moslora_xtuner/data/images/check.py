"""Looking at one image file: can it be decoded whole, and what about it should be known."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from PIL import Image

from ..problem_kinds import Kind
from .opening import SUFFIXES, UNDECODABLE, ImageFault, locate, opened, orientation, undecodable
from .seen import Ledger

Finding = tuple[Kind, str]
"""What, and its details."""


def examine(root: Path, name: str, ledger: Ledger | None = None) -> list[Finding]:
    """Everything about one image; empty when there is nothing to say.

    Where it lies is looked at every time; it is decoded once, as long as the file's size and time stay the same.
    """
    try:
        real, found = locate(root, name)
    except ImageFault as fault:
        return [(fault.kind, fault.detail)]
    known = ledger.known(name, found) if ledger is not None else None
    if known is not None:
        return known
    findings = decode(real, name)
    if ledger is not None:
        ledger.learn(name, found, findings)
    return findings


def decode(real: str, name: str) -> list[Finding]:
    """Decode the whole file. A JPEG at an eighth of its size: all its bytes are read, fewer pixels are made."""
    try:
        with warnings.catch_warnings(), opened(real, name) as image:
            warnings.simplefilter("ignore")  # Pillow's remarks on odd tags; what matters is found below
            remarks = _remarks(image, name)
            if image.format == "JPEG":
                image.draft(image.mode, (1, 1))
            turn = orientation(image) if image.format == "TIFF" else None  # Pillow's reader turns those itself
            image.load()
            turn = turn or orientation(image)  # a PNG's may stand behind its pixels
            if turn != 1:
                remarks.append((Kind.TURNED_IMAGE, f"{name!r} has orientation {turn}"))
    except UNDECODABLE as fault:
        told = undecodable(name, fault)
        return [(told.kind, told.detail)]
    except ImageFault as fault:
        return [(fault.kind, fault.detail)]
    return remarks


def _remarks(image: Image.Image, name: str) -> list[Finding]:
    found: list[Finding] = []
    kind = image.format or ""
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in SUFFIXES.get(kind, {suffix}):
        found.append((Kind.WRONG_EXTENSION, f"{name!r} is a {kind}"))
    # A camera's MPO holds one picture and its preview.
    if kind not in ("JPEG", "MPO") and getattr(image, "is_animated", False):
        found.append((Kind.ANIMATED_IMAGE, f"{name!r} has {getattr(image, 'n_frames', 'several')} frames"))
    if image.mode == "CMYK":
        found.append((Kind.CMYK_IMAGE, f"{name!r} is CMYK"))
    if image.mode in ("P", "PA"):
        found.append((Kind.PALETTE_IMAGE, f"{name!r} has a palette"))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        found.append((Kind.IMAGE_WITH_TRANSPARENCY, f"{name!r} has transparent places"))
    return found
