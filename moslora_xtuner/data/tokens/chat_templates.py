"""Chat templates: how a conversation becomes text, and where the loss is.

The strings of chats are facts about the models and equal those of `xtuner.utils.PROMPT_TEMPLATE` (a test compares
them); they stand here so that data can be prepared and models evaluated without importing XTuner. Those of `alpaca`
are the authors' for commonsense reasoning (wutaiqiang/MoSLoRA, commonsense_reasoning/finetune.py and
commonsense_evaluate.py), white space included.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from ...errors import DataError, UsageError

MAX_LENGTH = 2048 - 576
"""Text tokens of a record, beside the 576 of its image (the authors' configs)."""

Loss = Literal["answer", "all"]
"""Where the loss is: on the assistant's words and what closes them, or on every token of text."""


@dataclass(frozen=True)
class Template:
    """The pieces around a turn.

    Attributes:
        instruction: around the human's words, up to where the assistant begins.
        suffix: what the assistant's answer ends with; it carries a loss.
        system: around a system prompt.
        separator: between two turns, without a loss.
        stop_words: at which generation ends.
        plain: made for models of any kind: what opens a text is what the tokenizer itself puts there, and the
            tokenizer's end-of-text token closes an answer.
        joined: whether a turn and its answer are encoded as one text, not each by itself.
        loss: where it is unless something else is asked for.
        max_length: tokens that a record may have unless something else is asked for.
        asked: the name of the template that questions are asked with, where that is another one.
        one_turn: whether a conversation is one question and its answer.
    """

    instruction: str
    suffix: str
    system: str
    separator: str = ""
    stop_words: tuple[str, ...] = ()
    plain: bool = False
    joined: bool = False
    loss: Loss = "answer"
    max_length: int = MAX_LENGTH
    asked: str = ""
    one_turn: bool = False

    @property
    def asking(self) -> Template:
        """The template that questions are asked with."""
        return TEMPLATES[self.asked] if self.asked else self


_INDENT = 16 * " "
"""Before each line of the authors' Alpaca text but an instruction's own further lines: their source's indentation."""
_TASK = "Below is an instruction that describes a task. Write a response that appropriately completes the request."


def _alpaca(preamble_ends: str, between: str, *, joined: bool, asked: str = "") -> Template:
    """Alpaca's text without an input; the arguments are where the authors' training and evaluation differ."""
    lines = (
        f"{_TASK}{preamble_ends}",
        "",
        f"{_INDENT}### Instruction:",
        f"{_INDENT}{{input}}",
        between,
        f"{_INDENT}### Response:",
        _INDENT,
    )
    return Template(
        "\n".join(lines), "", "{system}\n\n",
        plain=True, joined=joined, loss="all", max_length=256, asked=asked, one_turn=True,
    )  # fmt: skip


TEMPLATES = {
    "llama3_chat": Template(
        instruction=(
            "<|start_header_id|>user<|end_header_id|>\n\n{input}<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
        suffix="<|eot_id|>",
        system="<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>",
        stop_words=("<|eot_id|>",),
    ),
    "internlm2_chat": Template(
        instruction="<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n",
        suffix="<|im_end|>",
        system="<|im_start|>system\n{system}<|im_end|>\n",
        separator="\n",
        stop_words=("<|im_end|>",),
    ),
    "alpaca": _alpaca(2 * " ", _INDENT, joined=True, asked="alpaca_as_asked"),
    "alpaca_as_asked": _alpaca(" ", "", joined=False),
}
"""By name. `alpaca` is what the authors train on, `alpaca_as_asked` what they ask with, where no answer is encoded with
the prompt: training on the second, too, makes both tokenise alike, which the authors' do not."""


def get_template(name: str) -> Template:
    """The template of this name.

    Raises:
        UsageError: there is none; the message names those that exist.
    """
    try:
        return TEMPLATES[name]
    except KeyError:
        raise UsageError(f"no chat template {name!r}: use one of {', '.join(sorted(TEMPLATES))}") from None


_SPECIAL = re.compile(r"<\|\w+\|>")


def missing_tokens(tokenizer: Any, name: str) -> list[str]:
    """The special tokens of a template that a tokenizer would split.

    Raises:
        UsageError: there is no such template.
    """
    template = get_template(name)
    wanted = sorted(set(_SPECIAL.findall(template.instruction + template.suffix + template.system)))
    return [token for token in wanted if len(tokenizer.encode(token, add_special_tokens=False)) != 1]


def require_special_tokens(tokenizer: Any, name: str) -> None:
    """Stop when a tokenizer splits what the template needs as one token, or cannot end a text that has to end.

    Raises:
        DataError: names the tokens; a base model's tokenizer, or another family's, lacks them.
        UsageError: there is no such template.
    """
    if missing := missing_tokens(tokenizer, name):
        raise DataError(
            f"{_where(tokenizer)} has no token {' or '.join(missing)}, which the template {name} needs: give the "
            "instruct or chat model of the template's family"
        )
    if get_template(name).plain and tokenizer.eos_token_id is None:
        raise DataError(
            f"{_where(tokenizer)} names no end-of-text token (eos_token), which closes every answer of the template "
            f"{name}: set it in tokenizer_config.json"
        )


def fitting_template(tokenizer: Any) -> str:
    """The chat template whose special tokens the tokenizer has; a plain one, which needs none, is named or not taken.

    Raises:
        DataError: it has those of none, or of more than one.
    """
    fitting = [name for name in TEMPLATES if not TEMPLATES[name].plain and not missing_tokens(tokenizer, name)]
    if len(fitting) != 1:
        said = f"those of {' and '.join(fitting)}" if fitting else "the special tokens of no known chat template"
        raise DataError(f"{_where(tokenizer)} has {said}: name one ({', '.join(TEMPLATES)})")
    return fitting[0]


def _where(tokenizer: Any) -> str:
    return getattr(tokenizer, "name_or_path", "") or "the tokenizer"
