"""The eight sets and the training file as data: where they stand, how much they hold, which file the published one is.

Source: LLM-Adapters (Hu et al. 2023), its repository's tree; the labels are those of the authors' evaluation
(wutaiqiang/MoSLoRA, commonsense_evaluate.py, extract_answer).
"""

from __future__ import annotations

from dataclasses import dataclass

WHERE = "https://github.com/AGI-Edgerunners/LLM-Adapters"
SAYS = "the correct answer is "
"""What stands before the label in every output."""
TRUTH = ("true", "false")


def numbered(word: str, count: int) -> tuple[str, ...]:
    """The labels WORD1 to WORDn."""
    return tuple(f"{word}{number}" for number in range(1, count + 1))


ANSWERS = numbered("answer", 5)
SOLUTIONS = numbered("solution", 2)
ENDINGS = numbered("ending", 4)
OPTIONS = numbered("option", 2)


@dataclass(frozen=True)
class QuestionSet:
    """One test set.

    Attributes:
        name: LLM-Adapters' folder of it.
        title: what the paper calls it.
        label: the column's head in Table 4.
        labels: what an answer may be; the first of them in a model's text is its answer.
        count: questions in the published file.
        blob: git's hash of the published file.
    """

    name: str
    title: str
    label: str
    labels: tuple[str, ...]
    count: int
    blob: str

    @property
    def path(self) -> str:
        """In LLM-Adapters' tree."""
        return f"dataset/{self.name}/test.json"


SETS: tuple[QuestionSet, ...] = (
    QuestionSet("ARC-Easy", "ARC easy", "ARC-e", ANSWERS, 2376, "6c0d30aaedaeca148df6bcd7aaacf7c31e6ad70f"),
    QuestionSet("openbookqa", "OpenBookQA", "OBQA", ANSWERS, 500, "a6e69676104bcb77237388c3b5a3f0dcbb81d1e2"),
    QuestionSet("social_i_qa", "Social IQa", "SIQA", ANSWERS, 1954, "eadf221799ca394367b144c0f86ee0436db409d2"),
    QuestionSet("ARC-Challenge", "ARC challenge", "ARC-c", ANSWERS, 1172, "9540685439144200b5a7e48dab9ca4655be2af09"),
    QuestionSet("winogrande", "WinoGrande", "WinoG", OPTIONS, 1267, "21257263593dd4d00546e1918c88ca0f357b08ad"),
    QuestionSet("piqa", "PIQA", "PIQA", SOLUTIONS, 1838, "f7a1c260692ef31796d4763cb6334f316a754fed"),
    QuestionSet("boolq", "BoolQ", "BoolQ", TRUTH, 3270, "6d7edb0a8e8a6566b546ccf0d98d24e48db3fdf3"),
    QuestionSet("hellaswag", "HellaSwag", "HellaS", ENDINGS, 10042, "183c4920415f83ba4b793c4873a33e7e10bd1be5"),
)
"""In Table 4's order. The paper gives 1830 for PIQA, and its appendix A.1 has the numbers of the ARC sets swapped."""
TRAINING = "ft-training_set/commonsense_170k.json"
TRAINING_BLOB = "529e426b33d4cdb1d0c4a275a1a7245ad081fd91"
EVERY_LABEL = frozenset({*TRUTH, *ANSWERS, *SOLUTIONS, *ENDINGS, *OPTIONS})
