"""InternLM2's tokenizer against SentencePiece itself, and its plain form against it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sentencepiece
import standins
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from moslora_xtuner.errors import ExportError
from moslora_xtuner.llm import internlm2_tokenizer
from moslora_xtuner.llm.internlm2_tokenizer import PROBES, InternLM2Tokenizer, as_plain_fast
from moslora_xtuner.llm.load import load_tokenizer

ADDED = re.compile(r"(<\|(?:plugin|interpreter|action_end|action_start|im_end|im_start)\|>|<unk>|<s>|</s>)")


@pytest.fixture(scope="session", params=[False, True], ids=["no prefix", "prefix"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standins.make_internlm2(tmp_path_factory.mktemp("tokenizer") / "internlm2", prefix=request.param)


@pytest.fixture(scope="session")
def tokenizer(checkpoint: Path) -> InternLM2Tokenizer:
    loaded: InternLM2Tokenizer = load_tokenizer(checkpoint)
    return loaded


@pytest.fixture(scope="session")
def processor(checkpoint: Path) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(checkpoint / "tokenizer.model"))


def reference(text: str, processor: sentencepiece.SentencePieceProcessor) -> list[int]:
    """What the published class does, written down from its description: cut at added tokens, encode the rest."""
    names = ["<|plugin|>", "<|interpreter|>", "<|action_end|>", "<|action_start|>", "<|im_end|>", "<|im_start|>"]
    ids = {"<unk>": 0, "<s>": 1, "</s>": 2}
    ids |= {name: processor.get_piece_size() - 6 + index for index, name in enumerate(names)}
    pieces = [piece for piece in ADDED.split(text) if piece]
    return [i for piece in pieces for i in ([ids[piece]] if piece in ids else processor.encode(piece))]


TEXTS = st.lists(
    st.one_of(
        st.text(max_size=20),
        st.sampled_from(["<|im_start|>", "<|im_end|>", "</s>", " ", "  ", "\n", "red", "What colour", "你好", "😀"]),
    ),
    max_size=8,
).map("".join)


@pytest.mark.parametrize("text", PROBES)
def test_probes_are_what_sentencepiece_says(
    text: str, tokenizer: InternLM2Tokenizer, processor: sentencepiece.SentencePieceProcessor
) -> None:
    assert tokenizer.encode(text, add_special_tokens=False) == reference(text, processor)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_any_text_is_what_sentencepiece_says(
    text: str, tokenizer: InternLM2Tokenizer, processor: sentencepiece.SentencePieceProcessor
) -> None:
    assert tokenizer.encode(text, add_special_tokens=False) == reference(text, processor)


def test_ids_of_the_template_are_those_of_the_checkpoint(tokenizer: InternLM2Tokenizer) -> None:
    size = tokenizer.sp_model.get_piece_size()
    assert len(tokenizer) == size
    assert tokenizer.convert_tokens_to_ids(["<|im_end|>", "<|im_start|>"]) == [size - 2, size - 1]
    assert tokenizer.encode("<|im_end|>") == [1, size - 2]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 2)


@pytest.fixture(scope="session")
def plain(tokenizer: InternLM2Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> AutoTokenizer:
    folder = tmp_path_factory.mktemp("plain")
    as_plain_fast(tokenizer).save_pretrained(folder)
    assert {path.suffix for path in folder.iterdir()} == {".json"}  # no code, no SentencePiece
    return AutoTokenizer.from_pretrained(folder)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_the_plain_form_encodes_alike(text: str, tokenizer: InternLM2Tokenizer, plain: AutoTokenizer) -> None:
    assert plain.encode(text) == tokenizer.encode(text)


def test_the_plain_form_decodes_its_own(plain: AutoTokenizer, tokenizer: InternLM2Tokenizer) -> None:
    text = "It is red.\n  Two, 你好 😀"
    assert plain.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    assert (plain.bos_token_id, plain.eos_token_id, plain.pad_token_id, len(plain)) == (1, 2, 2, len(tokenizer))
    assert plain.chat_template == tokenizer.chat_template


def test_a_plain_form_that_differs_is_refused(tokenizer: InternLM2Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internlm2_tokenizer.LlamaConverter, "normalizer", lambda *_: None)
    with pytest.raises(ExportError, match=r"with SentencePiece and .* with tokenizer\.json"):
        as_plain_fast(tokenizer)
