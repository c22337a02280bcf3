"""The Alpaca text of commonsense reasoning: as the authors' training has it, and as their evaluation has it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from moslora_xtuner.data.dataset import TokenStore
from moslora_xtuner.data.prepare import prepare
from moslora_xtuner.data.reading.records import Record
from moslora_xtuner.data.tokens.chat_templates import TEMPLATES, fitting_template, require_special_tokens
from moslora_xtuner.data.tokens.tokenise import IGNORE_INDEX, Encoder, tokenise
from moslora_xtuner.digits_base import language_model
from moslora_xtuner.errors import DataError

QUESTION = (
    "Please answer the following question with true or false, question: is ice cold?\n\nAnswer format: true/false"
)
ANSWER = "the correct answer is true"
PREAMBLE = "Below is an instruction that describes a task. Write a response that appropriately completes the request."
TRAINED = (
    f"{PREAMBLE}  \n\n                ### Instruction:\n                {QUESTION}\n                \n"
    "                ### Response:\n                "
)
ASKED = f"{PREAMBLE} \n\n                ### Instruction:\n                {QUESTION}\n\n                ### Response:\n                "  # noqa: E501
RECORD = Record("r", (), ((QUESTION, ANSWER),))
_CHOOSE = "Please choose the correct answer to the question: "
EACH_SET = [
    (QUESTION, "false"),
    ("Please choose the correct solution to the question: cool tea\n\nSolution1: wait\n\nSolution2: heat it\n\n"
     "Answer format: solution1/solution2", "solution1"),
    (f"{_CHOOSE}Ann fell. How is Ann?\n\nAnswer1: glad Answer2: hurt Answer3: tall\n\n"
     "Answer format: answer1/answer2/answer3", "answer2"),
    ("Please choose the correct ending to complete the given sentence: Roof: A man climbs. he\n\nEnding1: swims. "
     "Ending2: falls. Ending3: [title] rest. Ending4: eats.\n\nAnswer format: ending1/ending2/ending3/ending4",
     "ending2"),
    ("Please choose the correct answer to fill in the blank to complete the given sentence: Ann helped Bob since _ was "
     "kind.\n\nOption1: Ann Option2: Bob Answer format: option1/option2", "option1"),
    (f"{_CHOOSE}What melts?\n\nAnswer1: ice Answer2: salt Answer3: sand Answer4: air\n\n"
     "Answer format: answer1/answer2/answer3/answer4", "answer1"),
    (f"{_CHOOSE}What is five?\n\nAnswer1: 1 Answer2: 2 Answer3: 3 Answer4: 4 Answer5: 5\n\n"
     "Answer format: answer1/answer2/answer3/answer4/answer5", "answer5"),
    (f"{_CHOOSE}Birds have\n\nAnswer1: wings Answer2: wheels Answer3: fins Answer4: keys\n\n"
     "Answer format: answer1/answer2/answer3/answer4", "answer1"),
]  # fmt: skip
"""A question in the form of each of the eight sets, and its label."""


@pytest.fixture(scope="session")
def merging() -> Any:
    """A tokenizer that, as LLaMA-3's, makes the last blank of a prompt a part of the answer's first word."""
    return AutoTokenizer.from_pretrained(language_model("digits"))


@pytest.fixture(scope="session")
def letters() -> Any:
    """A tokenizer with a token for each byte, and LLaMA-3's opening and end."""
    specials = ["<|begin_of_text|>", "<|eot_id|>"]
    vocabulary = {token: number for number, token in enumerate([*specials, *pre_tokenizers.ByteLevel.alphabet()])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=specials[0], eos_token=specials[1])


def test_the_texts_by_hand() -> None:
    assert TEMPLATES["alpaca"].instruction.format(input=QUESTION) == TRAINED
    assert TEMPLATES["alpaca_as_asked"].instruction.format(input=QUESTION) == ASKED


def test_ids_are_those_of_one_text(merging: Any) -> None:
    """finetune.py: prompt and answer are one text, the tokenizer opens it, the end-of-text token closes it."""
    ((ids, labels),) = tokenise([RECORD], Encoder(merging, plain=True), TEMPLATES["alpaca"])
    assert ids == [*merging(TRAINED + ANSWER)["input_ids"], merging.eos_token_id]
    assert labels == ids


@pytest.mark.parametrize(("instruction", "label"), EACH_SET)
def test_bytes_by_hand_of_each_set(letters: Any, instruction: str, label: str) -> None:
    """A token a byte: prompt, answer, end; the loss on the answer alone begins at its first letter."""

    def tokens(text: str) -> list[int]:
        found: list[int] = letters.convert_tokens_to_ids([{" ": "Ġ", "\n": "Ċ"}.get(c, c) for c in text])
        return found

    record = Record("r", (), ((instruction, f"the correct answer is {label}"),))
    for template, frame in (("alpaca", TRAINED), ("alpaca_as_asked", ASKED)):
        prompt = tokens(frame.replace(QUESTION, instruction))
        answer = [*tokens(f"the correct answer is {label}"), letters.eos_token_id]
        opening = [letters.bos_token_id]
        ((ids, everywhere),) = tokenise([record], Encoder(letters), TEMPLATES[template])
        assert ids == everywhere == opening + prompt + answer
        ((ids, alone),) = tokenise([record], Encoder(letters), TEMPLATES[template], "answer")
        assert ids == everywhere
        assert alone == [IGNORE_INDEX] * (1 + len(prompt)) + answer


def test_the_answers_first_word_is_learnt_where_it_swallows_the_prompts_last_blank(merging: Any) -> None:
    """LLM-Adapters' count of the prompt's tokens would take it out of the loss with a tokenizer of single blanks."""
    encoder = Encoder(merging, plain=True)
    ((ids, labels),) = tokenise([RECORD], encoder, TEMPLATES["alpaca"], "answer")
    learnt = [label for label in labels if label != IGNORE_INDEX]
    assert merging.decode(learnt) == f" {ANSWER}<|eot_id|>"
    assert ids[-len(learnt) :] == learnt
    # Its prompt alone has one token more than stands before the answer here.
    assert len(merging(TRAINED)["input_ids"]) == len(ids) - len(learnt) + 1


def test_only_trained_as_asked_a_prompt_is_what_evaluation_asks(merging: Any) -> None:
    """The authors' training has another token at the prompt's end than their evaluation, in other places too."""
    asked = merging(ASKED)["input_ids"]
    for template, alike in (("alpaca_as_asked", True), ("alpaca", False)):
        ((ids, labels),) = tokenise([RECORD], Encoder(merging, plain=True), TEMPLATES[template], "answer")
        assert (ids[: len(asked)] == asked) == alike
        if alike:
            assert merging.decode(ids[len(asked) :]) == f"{ANSWER}<|eot_id|>"
            assert labels == [IGNORE_INDEX] * len(asked) + ids[len(asked) :]


def test_a_tokenizer_that_opens_no_text_is_followed(merging: Any) -> None:
    merging = AutoTokenizer.from_pretrained(language_model("digits"))
    from tokenizers.processors import ByteLevel

    merging.backend_tokenizer.post_processor = ByteLevel()
    ((ids, _),) = tokenise([RECORD], Encoder(merging, plain=True), TEMPLATES["alpaca"])
    assert ids[0] != merging.bos_token_id
    assert ids == [*merging(TRAINED + ANSWER)["input_ids"], merging.eos_token_id]


def test_a_silent_turn_stays_silent_with_a_loss_on_all(llama3_tokenizer: Any) -> None:
    record = Record("r", (), (("Q", "first"), ("R", "second")), silent=frozenset({0}))
    encoder = Encoder(llama3_tokenizer)
    for template in ("alpaca", "llama3_chat"):
        ((ids, labels),) = tokenise([record], encoder, TEMPLATES[template], "all")
        second = labels.index(next(label for label in labels[1:] if label != IGNORE_INDEX), 1)
        assert llama3_tokenizer.decode(ids[:second]).count("second") == 0
        assert labels[second:] == ids[second:]
        assert set(labels[1:second]) == {IGNORE_INDEX}


def test_everything_is_learnt_of_a_chat_that_is_asked_to(llama3_tokenizer: Any) -> None:
    record = Record("r", ("a.png",), (("<image>\nQ", "A"), ("R", "B")))
    encoder = Encoder(llama3_tokenizer)
    ((ids, labels),) = tokenise([record], encoder, TEMPLATES["llama3_chat"], "all")
    assert labels == [IGNORE_INDEX if token < 0 else token for token in ids]


def test_a_store_is_cut_at_256_and_the_end_stands_only_below(
    write_json: Callable[[list[Any]], Path], tmp_path: Path, letters: Any
) -> None:
    """Of a text of 255, 256 and 257 tokens: the end-of-text token is the 256th, or not there."""
    outer = len(TRAINED) - len(QUESTION) + len(ANSWER)  # a token each; nothing opens a text of this tokenizer
    conversations = [
        [{"from": "human", "value": "q" * (size - outer)}, {"from": "gpt", "value": ANSWER}] for size in (255, 256, 257)
    ]
    source = write_json([{"id": str(i), "conversations": turns} for i, turns in enumerate(conversations)])
    model = tmp_path / "llm"
    letters.save_pretrained(model)
    made = prepare(source, tmp_path, model, tmp_path / "store", template="alpaca")
    rows = pa.ipc.open_file(str(tmp_path / "store" / "records.arrow")).read_all().to_pylist()
    assert [row["length"] for row in rows] == [256, 256, 256]
    ends = [row["input_ids"][-1] for row in rows]
    assert ends == letters.convert_tokens_to_ids(["<|eot_id|>", "e", "u"])
    assert all(row["labels"] == row["input_ids"] for row in rows)
    assert (made["max_length"], made["loss"]) == (256, "all")
    with pytest.raises(DataError, match="loss on prompts and answers, the config says 'answer'"):
        TokenStore(str(tmp_path / "store"), template="alpaca", image_processor=object(), loss="answer")
    alone = prepare(source, tmp_path, model, tmp_path / "alone", template="alpaca", loss="answer")
    assert "loss" not in alone


def test_no_model_is_taken_for_alpacas_by_itself(llama3_tokenizer: Any) -> None:
    assert fitting_template(llama3_tokenizer) == "llama3_chat"


def test_a_tokenizer_without_an_end_is_refused(merging: Any) -> None:
    merging = AutoTokenizer.from_pretrained(language_model("digits"))
    merging.eos_token = None
    with pytest.raises(DataError, match="no end-of-text token"):
        require_special_tokens(merging, "alpaca")
