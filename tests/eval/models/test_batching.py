"""Who is asked together: like lengths, images side by side, the same for every history."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from moslora_xtuner.eval.models.batching import plan
from moslora_xtuner.eval.tasks.prompts import Question


def test_questions_on_one_image_stand_side_by_side() -> None:
    one, two = b"one", b"two"
    questions = [Question("", one), Question("", two), Question("", None), Question("", one), Question("", None)]
    # Image one has a question of 9 tokens, so both of its questions come after image two's of 5.
    assert plan(questions, [2, 5, 7, 9, 1], 2) == [[4, 1], [2, 0], [3]]


def test_longer_answers_are_asked_apart() -> None:
    questions = [Question("", None, 512), Question("", None, 16), Question("", None, 512), Question("", None, 16)]
    assert plan(questions, [1, 9, 1, 8], 2) == [[3, 1], [0, 2]]


@given(
    st.lists(st.tuples(st.sampled_from([None, b"a", b"b", b"c"]), st.integers(1, 50), st.sampled_from([8, 16]))),
    st.integers(1, 9),
)
def test_each_question_once_in_full_batches(rows: list[tuple[bytes | None, int, int]], size: int) -> None:
    questions = [Question(str(place), image, new) for place, (image, _, new) in enumerate(rows)]
    made = plan(questions, [length for _, length, _ in rows], size)
    assert sorted(place for places in made for place in places) == list(range(len(rows)))
    assert all(len(places) == size for places in made[:-1])
