"""InternLM2's tokenizer without its remote code, and the same as a plain `tokenizer.json` that any engine loads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from transformers import AddedToken, LlamaTokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import LlamaConverter, import_protobuf

from ..errors import ExportError

PROBES = (
    "The quick brown fox, 12 + 30 = 42.",
    "  two spaces before, three   inside, one after ",
    "line\n\nline\r\n\ttabbed",
    "你好，世界！这是一只猫。 日本語も、한국어도 조금.",
    "Größe, naïve, Ελλάδα, русский, عربى, हिन्दी",
    "def f(x):\n    return {'a': [x**2, None]}  # 😀🇪🇺\u200b\u00a0\ufeff",
    "A. red\nB. green\nAnswer with the option's letter from the given choices directly.",
    "<|im_start|>user\nWhat is it?<|im_end|>\n<|im_start|>assistant\nA cat.<|im_end|>\n",
    "",
    " ",
)
"""Texts on which two tokenizers must agree before one may stand for the other."""


class InternLM2Tokenizer(LlamaTokenizer):
    """Byte-pair encoding by SentencePiece from `tokenizer.model`, cut at the added tokens first.

    InternLM2's published class is LLaMA's first tokenizer under another name: each piece of text between added
    tokens goes to SentencePiece as it is. That is what LlamaTokenizer does with `legacy`. The added tokens
    (`<|im_start|>`, ...) stand in `tokenizer_config.json` and take ids of unused pieces of the vocabulary.

    Source: tokenization_internlm2.py of huggingface.co/internlm/internlm2-chat-7b.
    """

    def __init__(self, vocab_file: str, **options: Any) -> None:
        self._prefixed = _proto(Path(vocab_file)).normalizer_spec.add_dummy_prefix
        options.update(legacy=True, add_prefix_space=self._prefixed, clean_up_tokenization_spaces=False)
        options.setdefault("pad_token", "</s>")
        super().__init__(vocab_file, **options)


def as_plain_fast(tokenizer: InternLM2Tokenizer) -> PreTrainedTokenizerFast:
    """The same tokenizer as a self-contained `tokenizer.json`, for exports.

    Raises:
        ExportError: the two disagree on one of `PROBES`.
    """
    with tempfile.TemporaryDirectory() as folder:
        renamed = Path(folder) / "tokenizer.model"
        proto = _proto(Path(tokenizer.vocab_file))
        # Otherwise the converter gives the added tokens new ids behind the vocabulary.
        for index, token in tokenizer.added_tokens_decoder.items():
            if index < len(proto.pieces):
                proto.pieces[index].piece = token.content
        renamed.write_bytes(proto.SerializeToString())
        source = LlamaTokenizer(str(renamed), legacy=True, add_prefix_space=tokenizer._prefixed)
        backend = LlamaConverter(source).converted()
    backend.add_special_tokens(
        [AddedToken(t.content, normalized=False, special=True) for t in tokenizer.added_tokens_decoder.values()]
    )
    from tokenizers.processors import TemplateProcessing

    bos = (tokenizer.bos_token, tokenizer.bos_token_id)
    backend.post_processor = TemplateProcessing(single=f"{bos[0]} $A", pair=f"{bos[0]} $A $B", special_tokens=[bos])
    special = tokenizer.special_tokens_map
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        padding_side=tokenizer.padding_side,
        model_max_length=tokenizer.model_max_length,
        clean_up_tokenization_spaces=False,
        **special,
    )
    fast.chat_template = tokenizer.chat_template
    for text in PROBES:
        wanted, found = (t.encode(text, add_special_tokens=False) for t in (tokenizer, fast))
        if wanted != found:
            raise ExportError(
                f"the tokenizer of {tokenizer.name_or_path} cannot be exported: {text!r} is {wanted} with "
                f"SentencePiece and {found} with tokenizer.json"
            )
    return fast


def _proto(path: Path) -> Any:
    proto = import_protobuf().ModelProto()
    proto.ParseFromString(path.read_bytes())
    return proto
