"""The tokenizer of the base model, and conversations as token ids and labels."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from transformers import PreTrainedTokenizerFast

from moslora_xtuner.data.digits.conversations import Turn, as_text_only, caption_turn, scene_and_turns
from moslora_xtuner.data.instructions import IMAGE_TOKEN

from .drills import letter_drill

IGNORE, IMAGE_ID = -100, -200
SPECIAL_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
    "<|finetune_right_pad_id|>",
)  # fmt: skip
LLAMA3_CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def train_tokenizer(vocab_size: int, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE over the corpus, with LLaMA-3's special tokens and chat template; one token a digit."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    rng = np.random.default_rng(seed)
    corpus = []
    for _ in range(4000):
        scene, turns = scene_and_turns(rng, "train", turns=3)
        corpus += [text for turn in [*as_text_only(scene, turns), caption_turn(scene, 0)] for text in turn]
        corpus += [*caption_turn(scene, 1), *letter_drill(rng, 1)[0]]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        sorted(corpus),
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=list(SPECIAL_TOKENS),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    bos = SPECIAL_TOKENS[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, tokenizer.token_to_id(bos))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token="<|eot_id|>", pad_token="<|finetune_right_pad_id|>",
        model_max_length=1024, chat_template=LLAMA3_CHAT_TEMPLATE, clean_up_tokenization_spaces=False,
    )  # fmt: skip


class Encoder:
    """Conversations to token ids and labels; texts that come again are not tokenised again."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, image_tokens: int) -> None:
        self.bos, self.image = tokenizer.bos_token_id, [IMAGE_ID] * image_tokens
        self.ids = lru_cache(maxsize=100_000)(lambda text: tokenizer.encode(text, add_special_tokens=False))

    def encode(self, turns: list[Turn], plain: bool) -> tuple[list[int], list[int]]:
        """Token ids and labels, in LLaMA-3's template unless plain; only the assistant's turns carry a loss."""
        ids, labels = [self.bos], [IGNORE]
        for human, answer in turns:
            prompt = human
            if not plain:
                prompt = (
                    f"<|start_header_id|>user<|end_header_id|>\n\n{human}<|eot_id|>"
                    "<|start_header_id|>assistant<|end_header_id|>\n\n"
                )
            for i, part in enumerate(prompt.split(IMAGE_TOKEN)):
                if i:
                    ids += self.image
                ids += self.ids(part)
            labels += [IGNORE] * (len(ids) - len(labels))
            reply = self.ids(answer if plain else f"{answer}<|eot_id|>")
            ids += reply
            labels += reply
        return ids, labels
