"""Releases of tables that are known beside the one that the installed VLMEvalKit registers.

A file of one of these is asked and scored as it is; the manifest names it and what VLMEvalKit registers.
"""

from __future__ import annotations

HELD_BACK = "2024 (ms-vlmeval 0.0.20; answers held back)"
PUBLIC = "June 2026 (VLMEvalKit#1516; answers public)"
RELEASES: dict[str, dict[str, str]] = {
    "MMBench_TEST_EN_V11": {
        "26f0f15381a21720255091d3e0316ce6": HELD_BACK,
        "8d1a704e791df6f5d9fb3ef782b65365": PUBLIC,
    },
    "MMBench_TEST_CN_V11": {
        "74bbe4556dac745613c7cbe5ad787050": HELD_BACK,
        "156e6569f9547afb16603eca16e85373": PUBLIC,
    },
}
"""Dataset, md5, what it is. Of all other tables scored here the releases of ms-vlmeval 0.0.20 and of VLMEvalKit's main
(e8e78f05, August 2026) have one md5, which the installed one registers."""


def known(dataset: str, md5: str) -> str | None:
    """What release a file is, or None."""
    return RELEASES.get(dataset, {}).get(md5)
