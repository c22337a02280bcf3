"""The first label of an answer: judged by hand, and by the authors' rule written down once more."""

from __future__ import annotations

import re
from typing import Any

import pytest

from moslora_xtuner.data.commonsense.sets import SETS
from moslora_xtuner.eval.scoring.labels import first_label, offered, score_labels
from moslora_xtuner.eval.tasks.registry import BENCHMARKS, GROUPS

SAYS = "the correct answer is "
JUDGED = [
    # set, what the model said, what a reader who keeps to the rule takes it for
    ("boolq", SAYS + "true", "true"),
    ("boolq", SAYS + "false", "false"),
    ("boolq", "True", ""),
    ("boolq", "FALSE, false", "false"),
    ("boolq", "it is not true but false", "true"),
    ("boolq", "that is untrue", "true"),
    ("boolq", "falsetrue", "false"),
    ("boolq", "yes", ""),
    ("boolq", "", ""),
    ("boolq", "tru e", ""),
    ("piqa", SAYS + "solution1", "solution1"),
    ("piqa", SAYS + "solution2", "solution2"),
    ("piqa", "Solution1", ""),
    ("piqa", "solution1 or solution2", "solution1"),
    ("piqa", "not solution2, solution1", "solution2"),
    ("piqa", "solution3", ""),
    ("piqa", "solution 1", ""),
    ("piqa", "solution21", "solution2"),
    ("piqa", "answer1", ""),
    ("piqa", "the solutions are solution", ""),
    ("social_i_qa", SAYS + "answer1", "answer1"),
    ("social_i_qa", SAYS + "answer3", "answer3"),
    ("social_i_qa", SAYS + "answer4", "answer4"),
    ("social_i_qa", "Answer2", ""),
    ("social_i_qa", "answer2 answer1", "answer2"),
    ("social_i_qa", "answers: answer3.", "answer3"),
    ("social_i_qa", "the third", ""),
    ("ARC-Easy", SAYS + "answer5", "answer5"),
    ("ARC-Easy", SAYS + "answer4", "answer4"),
    ("ARC-Easy", "answer6", ""),
    ("ARC-Easy", "answer12", "answer1"),
    ("ARC-Easy", "ANSWER1 answer2", "answer2"),
    ("ARC-Easy", "answer\n1", ""),
    ("ARC-Challenge", SAYS + "answer2", "answer2"),
    ("ARC-Challenge", "answer2/answer3", "answer2"),
    ("ARC-Challenge", "I would say answer0, answer3", "answer3"),
    ("ARC-Challenge", "2", ""),
    ("ARC-Challenge", "(answer1)", "answer1"),
    ("openbookqa", SAYS + "answer1", "answer1"),
    ("openbookqa", "option1", ""),
    ("openbookqa", "answer5", "answer5"),
    ("openbookqa", "answer4answer3", "answer4"),
    ("openbookqa", "ans wer4", ""),
    ("winogrande", SAYS + "option1", "option1"),
    ("winogrande", SAYS + "option2", "option2"),
    ("winogrande", "Option1: Sarah", ""),
    ("winogrande", "option2, since option1 is wrong", "option2"),
    ("winogrande", "option3", ""),
    ("winogrande", "options", ""),
    ("winogrande", "Sarah", ""),
    ("winogrande", "option1\n### Response: option2", "option1"),
    ("hellaswag", SAYS + "ending1", "ending1"),
    ("hellaswag", SAYS + "ending4", "ending4"),
    ("hellaswag", "Ending3", ""),
    ("hellaswag", "ending5", ""),
    ("hellaswag", "the pending2 matter", "ending2"),
    ("hellaswag", "ending3ending1", "ending3"),
    ("hellaswag", "\n\nending2", "ending2"),
    ("hellaswag", "### Response: ending2", ""),
    ("hellaswag", "is sitting on a roof.", ""),
]


def authors(name: str, output: str) -> str:
    """Their two steps: what stands after the prompt's Response, then the first match of the set's pattern."""
    text = f"... ### Response:\n                {output}".split("### Response:")[1].strip()
    pattern = {
        "boolq": r"true|false",
        "piqa": r"solution1|solution2",
        "hellaswag": r"ending1|ending2|ending3|ending4",
        "winogrande": r"option1|option2",
    }.get(name, r"answer1|answer2|answer3|answer4|answer5")
    found = re.findall(pattern, text)
    return str(found[0]) if found else ""


def test_there_are_sixty_of_every_set() -> None:
    assert len(JUDGED) == 60
    assert {name for name, *_ in JUDGED} == {which.name for which in SETS}


@pytest.mark.parametrize(("name", "said", "judged"), JUDGED)
def test_extraction_by_hand_and_by_the_authors_rule(name: str, said: str, judged: str) -> None:
    assert first_label(said, BENCHMARKS[name].labels) == judged == authors(name, said)


@pytest.mark.parametrize("name", GROUPS["commonsense"])
def test_the_authors_accuracy_on_the_same_answers(name: str) -> None:
    labels = BENCHMARKS[name].labels
    mine = [said for which, said, _ in JUDGED if which == name]
    rows: list[dict[str, Any]] = [
        {
            "index": str(i),
            "question": f"Q\n\nAnswer format: {'/'.join(labels[:2])}",
            "answer": label,
            "prediction": said,
        }
        for i, (label, said) in enumerate((label, said) for label in labels for said in mine)
    ]
    theirs = [row["answer"] == authors(name, row["prediction"]) for row in rows]
    entry, outcomes = score_labels(BENCHMARKS[name], rows)
    assert entry["overall"] == pytest.approx(100 * sum(theirs) / len(theirs))
    assert [outcome["score"] for outcome in outcomes] == [float(right) for right in theirs]
    assert entry["parse_failures"] == sum(not authors(name, row["prediction"]) for row in rows)
    assert entry["beyond_options"] == sum(authors(name, row["prediction"]) in labels[2:] for row in rows)
    assert entry["chance"] == {"overall": 50.0}


def test_what_a_question_offers() -> None:
    labels = BENCHMARKS["ARC-Easy"].labels
    assert offered("Q\n\nAnswer format: answer1/answer2/answer3", labels) == ("answer1", "answer2", "answer3")
    assert offered("Option1: a Option2: b Answer format: option1/option2", labels) == ("option1", "option2")
    assert offered("no format", labels) == labels
