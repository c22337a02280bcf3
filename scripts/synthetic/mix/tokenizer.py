"""A stand-in for LLaMA-3's tokenizer, which may not be passed on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from moslora_xtuner.errors import DataError
from moslora_xtuner.output import atomic_folder

KIND = "tokenizer like LLaMA-3's"
RECORDS = 20_000
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""Where LLaMA-3 cuts text before its merges (a fact about the model: tokenizer.json)."""


def train_tokenizer(folder: Path, sample_json: Path, vocabulary: int = 32000) -> Path:
    """A byte-level BPE with LLaMA-3's pre-tokenisation, special tokens and chat template; returns its folder.

    It learns the first 20,000 records of a file of `make_mix_like.py`. The vocabulary is smaller than the size
    asked for where the file has no more pairs to merge. LLaMA-3 has its special tokens after the words, here
    they are the first ids.

    Raises:
        DataError: the file has no record in a line of its own.
        OutputError: the folder holds something else.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    from ..digits_base.words import LLAMA3_CHAT_TEMPLATE

    bos, eos = "<|begin_of_text|>", "<|eot_id|>"
    specials = [bos, "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", eos]
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(sample_json), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    whole = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        model_max_length=8192,
        chat_template=LLAMA3_CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
    with atomic_folder(folder, KIND) as beside:
        whole.save_pretrained(beside)
    return folder


def _texts(file: Path) -> Iterator[str]:
    """What is said in the first records, read line by line: the whole file may not fit into memory."""
    with file.open(encoding="utf-8") as stream:
        lines = [line.rstrip(",\n") for line in islice(stream, RECORDS + 1)]
    records = [line for line in lines if line.startswith("{")]
    if not records:
        raise DataError(f"{file} has no record in a line of its own: give the mix.json of make_mix_like.py")
    for record in records:
        for message in json.loads(record)["conversations"]:
            yield message["value"]
