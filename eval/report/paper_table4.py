"""Table 4 of the paper as data: shown beside measured scores, never instead of them.

Source: Wu, Wang, Zhao, Wong, "Mixture-of-Subspaces in Low-Rank Adaptation", arXiv 2406.11909, Table 4 (LLaMA-3 8B
Instruct by its words; one A100 80G). The two rows of DoRA equal the figures of DoRA's own repository, which are of the
base LLaMA-3 8B.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..tasks.registry import GROUPS


@dataclass(frozen=True)
class CommonsenseRow:
    """One row: eight scores in the order of `GROUPS["commonsense"]`, the mean and what it cost as printed.

    `params` in millions, `hours` of training, `gigabytes` of memory.
    """

    name: str
    values: tuple[float, ...]
    mean: float
    params: float
    hours: float
    gigabytes: int

    @property
    def scores(self) -> dict[str, float]:
        """Dataset name to score, 0 to 100."""
        return dict(zip(GROUPS["commonsense"], self.values, strict=True))


TABLE4: tuple[CommonsenseRow, ...] = (
    CommonsenseRow("LoRA", (87.7, 82.8, 79.3, 75.7, 84.8, 86.7, 72.3, 93.5), 82.8, 28.3, 8.0, 29),
    CommonsenseRow("LoKr", (89.2, 81.8, 78.7, 76.7, 82.1, 81.6, 65.1, 92.0), 80.9, 0.9, 26.3, 66),
    CommonsenseRow("LoHa", (91.2, 85.8, 81.1, 80.5, 83.3, 89.7, 75.0, 95.0), 85.2, 28.3, 25.5, 68),
    CommonsenseRow("FLoRA", (90.2, 84.2, 79.9, 79.3, 85.1, 86.7, 74.8, 93.9), 84.2, 28.4, 8.2, 31),
    CommonsenseRow("AdaLoRA", (90.4, 85.0, 76.7, 79.1, 83.3, 86.4, 75.1, 75.4), 81.4, 28.3, 12.5, 58),
    CommonsenseRow("DoRA r16", (90.1, 87.2, 80.3, 79.1, 84.7, 88.8, 74.5, 95.5), 85.0, 29.1, 14.5, 33),
    CommonsenseRow("DoRA r32", (90.5, 85.8, 79.9, 80.4, 85.6, 89.3, 74.6, 95.5), 85.2, 57.4, 14.8, 33),
    CommonsenseRow("MoSLoRA (Kaiming)", (90.5, 86.8, 81.0, 81.5, 85.8, 89.7, 74.6, 95.0), 85.6, 28.4, 8.2, 31),
)
NOTE = (
    "Scores of the paper are Table 4 as arXiv 2406.11909 prints it, of one run each, answered one by one with dropout "
    "on. Its two rows of DoRA are those of DoRA's repository, of the base model and not of Instruct. FLoRA's printed "
    "mean is 84.2; the mean of its printed cells is 84.26."
)
