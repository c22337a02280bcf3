"""Ids and labels equal XTuner's, and a hand-written example."""

from __future__ import annotations

import copy
import pickle
from itertools import chain
from typing import Any, ClassVar

import pytest
import standins
from hypothesis import given
from hypothesis import strategies as st

from moslora_xtuner.data.reading.records import Record
from moslora_xtuner.data.tokens.chat_templates import TEMPLATES, get_template
from moslora_xtuner.data.tokens.tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX, Encoder, has_control, tokenise
from moslora_xtuner.errors import UsageError
from moslora_xtuner.llm.load import load_tokenizer

words = st.text(st.sampled_from("ab 7?!\n\t{}数字，。é"), max_size=12)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """Up to four turns; the image mark may stand anywhere in one human turn."""
    turns = draw(st.lists(st.tuples(words, words), min_size=1, max_size=4))
    images: tuple[str, ...] = ()
    if draw(st.booleans()):
        images = ("a.png",)
        at = draw(st.integers(0, len(turns) - 1))
        human, answer = turns[at]
        cut = draw(st.integers(0, len(human)))
        turns[at] = (f"{human[:cut]}<image>{human[cut:]}", answer)
    return Record("r", images, tuple(turns))


def xtuner_ids(record: Record, tokenizer: Any, template: str) -> dict[str, list[int]]:
    """What XTuner's own three functions make of the record."""
    from xtuner.dataset.map_fns import llava_map_fn
    from xtuner.dataset.map_fns.template_map_fn import template_map_fn
    from xtuner.dataset.utils import encode_fn
    from xtuner.utils import PROMPT_TEMPLATE

    messages = [
        {"from": role, "value": text}
        for turn in record.turns
        for role, text in zip(("human", "gpt"), turn, strict=True)
    ]
    example = llava_map_fn({"conversations": messages})
    example = template_map_fn(example, PROMPT_TEMPLATE[template])
    found: dict[str, list[int]] = encode_fn(example, tokenizer, 100_000, with_image_token=True)
    return found


@pytest.mark.parametrize("template", ["llama3_chat", "internlm2_chat"])
@given(record=records())
def test_equals_xtuner(template: str, llama3_tokenizer: Any, internlm2_tokenizer: Any, record: Record) -> None:
    tokenizer = {"llama3_chat": llama3_tokenizer, "internlm2_chat": internlm2_tokenizer}[template]
    wanted = xtuner_ids(copy.deepcopy(record), tokenizer, template)
    ((ids, labels),) = tokenise([record], Encoder(tokenizer), get_template(template))
    assert ids == wanted["input_ids"]
    assert labels == wanted["labels"]
    assert ids.count(IMAGE_TOKEN_INDEX) == len(record.images)


def test_labels_by_hand(llama3_tokenizer: Any) -> None:
    """The loss is on `A<|eot_id|>` and `B<|eot_id|>` and nowhere else; the image mark moves to the front."""
    record = Record("r", ("a.png",), (("Which?\n<image>", "A"), ("And?", "B")))
    ((ids, labels),) = tokenise([record], Encoder(llama3_tokenizer), TEMPLATES["llama3_chat"])
    eot = llama3_tokenizer.convert_tokens_to_ids("<|eot_id|>")
    a, b = (llama3_tokenizer.encode(letter, add_special_tokens=False)[0] for letter in "AB")
    assert [label for label in labels if label != IGNORE_INDEX] == [a, eot, b, eot]
    assert all(label in (IGNORE_INDEX, token) for label, token in zip(labels, ids, strict=True))
    assert ids[0] == llama3_tokenizer.bos_token_id
    assert ids.count(llama3_tokenizer.bos_token_id) == 1
    text = "|".join(
        llama3_tokenizer.decode(part)
        for part in (ids[: ids.index(IMAGE_TOKEN_INDEX)], ids[ids.index(IMAGE_TOKEN_INDEX) + 1 :])
    )
    head = "<|start_header_id|>{}<|end_header_id|>\n\n"
    user, assistant = head.format("user"), head.format("assistant")
    assert text == (
        f"<|begin_of_text|>{user}|\nWhich?<|eot_id|>{assistant}A<|eot_id|>{user}And?<|eot_id|>{assistant}B<|eot_id|>"
    )


def test_internlm2_closes_a_turn_with_a_line_feed_without_loss(internlm2_tokenizer: Any) -> None:
    record = Record("r", (), (("Hi", "Ho"),))
    ((ids, labels),) = tokenise([record], Encoder(internlm2_tokenizer), TEMPLATES["internlm2_chat"])
    end = internlm2_tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert ids[-2] == labels[-2] == end
    assert internlm2_tokenizer.decode(ids[-1:]) == "\n"
    assert labels[-1] == IGNORE_INDEX


def test_internlm2_by_hand(internlm2_tokenizer: Any) -> None:
    """The loss is on `A<|im_end|>` and nowhere else; the system prompt opens the conversation."""
    record = Record("r", ("a.png",), (("<image>Which?", "A"),), system="Be brief.")
    ((ids, labels),) = tokenise([record], Encoder(internlm2_tokenizer), TEMPLATES["internlm2_chat"])
    at = ids.index(IMAGE_TOKEN_INDEX)
    pieces = [
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n",
        "\nWhich?<|im_end|>\n<|im_start|>assistant\n",
        "A<|im_end|>",
        "\n",
    ]
    encoded = [internlm2_tokenizer.encode(piece, add_special_tokens=False) for piece in pieces]
    assert ids == [internlm2_tokenizer.bos_token_id, *encoded[0], IMAGE_TOKEN_INDEX, *chain(*encoded[1:])]
    assert at == 1 + len(encoded[0])
    silent = len(ids) - len(encoded[2]) - len(encoded[3])
    assert labels == [IGNORE_INDEX] * silent + encoded[2] + [IGNORE_INDEX] * len(encoded[3])


def test_several_marks_of_one_turn_stay_where_they_are(llama3_tokenizer: Any) -> None:
    record = Record("r", ("a.png", "b.png"), (("Is <image> or <image> red?", "A"), ("Sure?", "B")))
    ((ids, _),) = tokenise([record], Encoder(llama3_tokenizer), TEMPLATES["llama3_chat"])
    first, second = (place for place, token in enumerate(ids) if token == IMAGE_TOKEN_INDEX)
    assert llama3_tokenizer.decode(ids[:first]).endswith("Is ")
    assert llama3_tokenizer.decode(ids[first + 1 : second]) == " or "
    assert llama3_tokenizer.decode(ids[second + 1 :]).startswith(" red?<|eot_id|>")


@given(batch=st.lists(records(), max_size=5))
def test_many_at_once_as_each_alone(llama3_tokenizer: Any, batch: list[Record]) -> None:
    encoder, template = Encoder(llama3_tokenizer), TEMPLATES["llama3_chat"]
    assert tokenise(batch, encoder, template) == [tokenise([record], encoder, template)[0] for record in batch]


def test_an_encoder_travels_and_a_slow_tokenizer_will_do(llama3_tokenizer: Any) -> None:
    class Slow:
        """A tokenizer without a fast part: this one counts in characters."""

        bos_token_id, is_fast = None, False
        added_tokens_decoder: ClassVar[dict[int, Any]] = {}

        def encode(self, text: str, add_special_tokens: bool) -> list[int]:
            assert not add_special_tokens
            return [ord(letter) for letter in text]

    texts = ["a b", "", "a b", "é"]
    encoder = pickle.loads(pickle.dumps(Encoder(llama3_tokenizer)))
    assert encoder(texts) == [llama3_tokenizer.encode(text, add_special_tokens=False) for text in texts]
    assert Encoder(Slow())(texts) == [[97, 32, 98], [], [97, 32, 98], [233]]


@pytest.mark.parametrize("name", ["internlm2_chat", "llama3_chat"])
def test_templates_equal_xtuners(name: str) -> None:
    from xtuner.utils import PROMPT_TEMPLATE

    ours, theirs = TEMPLATES[name], PROMPT_TEMPLATE[name]
    assert ours.instruction == theirs["INSTRUCTION"]
    assert ours.suffix == theirs["SUFFIX"]
    assert ours.system == theirs["SYSTEM"]
    assert ours.separator == theirs.get("SEP", "")
    assert list(ours.stop_words) == theirs["STOP_WORDS"]
    assert theirs["SUFFIX_AS_EOS"] is True  # no token of the tokenizer is added after the suffix


def test_an_unknown_template_lists_those_that_exist() -> None:
    with pytest.raises(UsageError, match="alpaca, alpaca_as_asked, internlm2_chat, llama3_chat"):
        get_template("vicuna")


@pytest.fixture(scope="session")
def encoders(
    llama3_tokenizer: Any, internlm2_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Encoder]:
    """Of each kind of tokenizer that a model here may have: byte-level, and SentencePiece with and without a prefix."""
    found = {"llama3": Encoder(llama3_tokenizer), "internlm2": Encoder(internlm2_tokenizer)}
    for prefix in (False, True):
        folder = tmp_path_factory.mktemp("internlm2")
        standins.make_internlm2_tokenizer(folder, prefix)
        found[f"sentencepiece, prefix {prefix}"] = Encoder(load_tokenizer(folder))
    return found


KINDS = ["llama3", "internlm2", "sentencepiece, prefix False", "sentencepiece, prefix True"]


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="<>"), max_size=20))
def test_taken_apart_at_control_tokens_a_text_has_the_same_ids(
    kind: str, encoders: dict[str, Encoder], text: str
) -> None:
    """So that only records that hold one are encoded otherwise than by XTuner."""
    encoder = encoders[kind]
    template = TEMPLATES["llama3_chat" if kind == "llama3" else "internlm2_chat"]
    before, after = template.instruction.split("{input}")
    for pieces in (
        ((before, False), (text, True), (after, False)),
        ((text, True), (template.suffix, False)),
        ((before, False), ("\n", False), (text, True), (after, False)),
    ):
        (whole,) = encoder(["".join(piece for piece, _ in pieces)])
        assert encoder._literally(pieces) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_a_control_token_that_somebody_wrote_is_text(kind: str, encoders: dict[str, Encoder]) -> None:
    encoder = encoders[kind]
    template = TEMPLATES["llama3_chat" if kind == "llama3" else "internlm2_chat"]
    end = encoder.control[template.suffix]
    for token in encoder.control:
        plain, risky = (
            Record("r", (), ((f"What is {word}?", f"It is {word}"),), system=word) for word in ("end", token)
        )
        (ids, labels), (usual, _) = (tokenise([record], encoder, template)[0] for record in (risky, plain))
        assert [i for i in ids if i in encoder.control.values()] == [i for i in usual if i in encoder.control.values()]
        assert labels.count(end) == 1
        separator = encoder([template.separator])[0]
        assert labels[-1 - len(separator)] == end
        assert has_control(risky, encoder)
        assert not has_control(plain, encoder)


def test_the_word_image_is_text_and_a_mark_is_a_picture(llama3_tokenizer: Any) -> None:
    encoder, template = Encoder(llama3_tokenizer), TEMPLATES["llama3_chat"]
    record = Record("r", ("a.png",), ((r"<image>\nWhat is \<image>?".replace(r"\n", "\n"), "A mark"),))
    ((ids, _),) = tokenise([record], encoder, template)
    assert ids.count(IMAGE_TOKEN_INDEX) == 1
    assert "What is <image>?" in llama3_tokenizer.decode([index for index in ids if index >= 0])


def test_an_answer_without_loss_has_no_label(llama3_tokenizer: Any) -> None:
    encoder, template = Encoder(llama3_tokenizer), TEMPLATES["llama3_chat"]
    turns = (("Q", "first"), ("R", "second"))
    records = [Record("r", (), turns, silent=frozenset(silent)) for silent in ((), (0,))]
    whole, half = tokenise(records, encoder, template)
    assert half[0] == whole[0]
    (second,) = encoder([f"second{template.suffix}"])
    assert [label for label in half[1] if label != IGNORE_INDEX] == second


def test_obeyed_a_control_token_means_what_it_means_with_xtuner(llama3_tokenizer: Any) -> None:
    record = Record("r", (), (("Say <|eot_id|>", "A<|eot_id|>"),))
    ((ids, labels),) = tokenise([record], Encoder(llama3_tokenizer, obey=True), TEMPLATES["llama3_chat"])
    wanted = xtuner_ids(record, llama3_tokenizer, "llama3_chat")
    assert (ids, labels) == (wanted["input_ids"], wanted["labels"])
