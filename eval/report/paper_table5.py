"""Table 5 of the paper as data: shown beside measured scores, never instead of them.

Source: Wu, Wang, Zhao, Wong, "Mixture-of-Subspaces in Low-Rank Adaptation", arXiv 2406.11909, Table 5.
The scores are on the 100-scale (MME x 28 gives points). The printed mean of the third row is 57.1;
the mean of its own nine printed cells is 57.16.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..tasks.registry import GROUPS


@dataclass(frozen=True)
class PaperRow:
    """One row of Table 5: nine scores in the order of `GROUPS["paper"]` and the mean as printed."""

    base: str
    method: str
    init: str
    values: tuple[float, ...]
    mean: float

    @property
    def name(self) -> str:
        """The row's name in tables."""
        return f"{self.base} {self.method}" + (f" ({self.init})" if self.init else "")

    @property
    def scores(self) -> dict[str, float]:
        """Dataset name to score, 0 to 100."""
        return dict(zip(GROUPS["paper"], self.values, strict=True))


TABLE5: tuple[PaperRow, ...] = (
    PaperRow("LLaMA-3+ViT", "LoRA", "", (72.0, 67.8, 68.8, 61.4, 74.8, 47.1, 27.7, 33.1, 58.4), 56.8),
    PaperRow("LLaMA-3+ViT", "MoSLoRA", "orthogonal", (73.0, 68.2, 69.0, 61.2, 75.7, 47.2, 27.6, 33.4, 60.6), 57.3),
    PaperRow("LLaMA-3+ViT", "MoSLoRA", "Kaiming", (72.5, 67.5, 68.9, 60.6, 76.0, 47.1, 27.5, 33.8, 60.5), 57.1),
    PaperRow("InternLM2+ViT", "QLoRA", "", (70.8, 68.9, 70.4, 62.2, 72.5, 49.8, 30.2, 33.9, 61.6), 57.8),
    PaperRow(
        "InternLM2+ViT",
        "QMoSLoRA",
        "orthogonal",
        (73.5, 71.2, 71.1, 64.8, 71.8, 49.8, 30.2, 35.0, 62.0),
        58.8,
    ),
    PaperRow("InternLM2+ViT", "QMoSLoRA", "Kaiming", (73.8, 72.6, 70.3, 66.1, 72.2, 50.2, 30.6, 35.2, 64.1), 59.5),
)
