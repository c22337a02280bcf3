"""Chat templates: how a conversation becomes text, and where the loss is.

The strings are facts about the models and equal those of `xtuner.utils.PROMPT_TEMPLATE` (a test compares them);
they stand here so that data can be prepared and models evaluated without importing XTuner.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError


@dataclass(frozen=True)
class Template:
    """The pieces around a turn.

    Attributes:
        instruction: around the human's words, up to where the assistant begins.
        suffix: what the assistant's answer ends with; it carries a loss.
        system: around a system prompt.
        separator: between two turns, without a loss.
        stop_words: at which generation ends.
    """

    instruction: str
    suffix: str
    system: str
    separator: str = ""
    stop_words: tuple[str, ...] = ()


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
}


def get_template(name: str) -> Template:
    """The template of this name.

    Raises:
        UsageError: there is none; the message names those that exist.
    """
    try:
        return TEMPLATES[name]
    except KeyError:
        raise UsageError(f"no chat template {name!r}: use one of {', '.join(sorted(TEMPLATES))}") from None
