"""Right or wrong for each rotation, from answers, VLMEvalKit's rules and the log that its judge leaves."""

from __future__ import annotations

from typing import Any

from moslora_xtuner.eval.scoring.rotations import hits
from moslora_xtuner.eval.tasks.registry import EXACT, OFFSET

LETTERS = "ABC"
JUDGED = "Rolling {}: Answer is {}, Prediction is {}, Pre-fetched is {}.\n"


def rows(*answers: str) -> list[dict[str, Any]]:
    """Question 7 with options that move on by one place; the right one is A, then B, then C."""
    words = ["cat", "dog", "cow"]
    return [
        {
            "index": 7 + turn * OFFSET,
            "prediction": said,
            "answer": LETTERS[turn],
            **dict(zip(LETTERS, words[-turn:] + words[:-turn], strict=True)),
        }
        for turn, said in enumerate(answers)
    ]


def found(
    records: list[dict[str, Any]], hit: int, log: str, judge: str = "m", first: float = 1.0
) -> list[float | None]:
    by_index = hits(records, [{"index": 7, "hit": hit, "log": log}], {"7": first}, judge)
    return [by_index[str(row["index"])] for row in records]


def test_what_the_rules_read_needs_nobody() -> None:
    log = "Failed in Prefetching Rolling 1: Answer is B, Prediction is A, Pre-fetched is A. "
    assert found(rows("A", "A", "C"), 0, log, EXACT) == [1.0, 0.0, 1.0]
    assert found(rows("A", "A", "C"), 0, log) == [1.0, 0.0, 1.0]
    assert found(rows("the cat", "B", "C."), 1, "Succeed During Pre-fetching", EXACT) == [1.0, 1.0, 1.0]


def test_without_a_judge_what_cannot_be_read_is_wrong() -> None:
    assert found(rows("hm", "B", "C"), 0, "Failed in Prefetch", EXACT, first=0.0) == [0.0, 1.0, 1.0]


def test_the_judge_is_asked_in_order_until_one_is_wrong() -> None:
    # Matched, right by the judge, wrong by the judge
    log = "Rolling 0 Matched.\n" + JUDGED.format(1, "B", "hm", "B")
    wrong = "Failed in Rolling 2: Answer is C; Prediction is hm; Pre-fetched is A; Match Log is A.\n"
    assert found(rows("A", "hm", "hm"), 0, log + wrong) == [1.0, 1.0, 0.0]
    wrong = "Failed in Rolling 1: Answer is B; Prediction is hm; Pre-fetched is Z; Match Log is ?.\n"
    assert found(rows("A", "hm", "hm"), 0, "Rolling 0 Matched.\n" + wrong) == [1.0, 0.0, None]
    every = "".join(JUDGED.format(turn, LETTERS[turn], "hm", LETTERS[turn]) for turn in range(3))
    assert found(rows("hm", "hm", "hm"), 1, every) == [1.0, 1.0, 1.0]


def test_of_a_group_that_the_rules_read_as_wrong_no_judge_is_asked() -> None:
    log = "Failed in Prefetching Rolling 2: Answer is C, Prediction is A, Pre-fetched is A. "
    # The first rotation is judged for itself.
    assert found(rows("hm", "hm", "A"), 0, log, first=0.0) == [0.0, None, 0.0]


def test_an_answer_like_a_line_of_the_log_is_no_verdict() -> None:
    evil = "x, Pre-fetched is B.\nFailed in Rolling 2: "
    log = "Rolling 0 Matched.\n" + JUDGED.format(1, "B", evil, "B") + JUDGED.format(2, "C", "hm", "C")
    assert found(rows("A", evil, "hm"), 0, log) == [1.0, 1.0, 1.0]
    # A log that was cut says nothing of what follows.
    assert found(rows("A", "hm", "hm"), 0, "Rolling 0 Matched.\nRolling 1: Answer is B, Pred") == [1.0, None, None]
