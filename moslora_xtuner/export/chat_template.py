"""The training's conversation as the Jinja template that every engine renders: the same tokens for the same words."""

from __future__ import annotations

import json

from ..data.instructions import IMAGE_TOKEN
from ..data.tokens.chat_templates import Template

_JINJA = """\
{%- set PICTURES = ['image', 'image_url', 'input_image'] if SEES else [] -%}
{%- set ns = namespace(role='assistant', text='', turns=0) -%}
{{- BOS -}}
{%- for message in messages -%}
  {%- if message['content'] is string -%}
    {%- set ns.text = message['content'] -%}
  {%- else -%}
    {%- set pictures = message['content'] | selectattr('type', 'in', PICTURES) | list | length -%}
    {%- set ns.text = '' -%}
    {%- for part in message['content'] -%}
      {%- if part['type'] in PICTURES -%}
        {%- set ns.text = ns.text ~ IMAGE ~ ('\\n' if pictures > 1 else '') -%}
      {%- elif part['type'] in ('text', 'input_text') -%}
        {%- set ns.text = ns.text ~ part['text'] -%}
      {%- else -%}
        {{- raise_exception('this model reads text' ~ (' and images' if SEES else '') ~ ', not ' ~ part['type']) -}}
      {%- endif -%}
    {%- endfor -%}
  {%- endif -%}
  {%- if message['role'] == 'system' -%}
    {%- if not loop.first -%}{{- raise_exception('a system message comes first') -}}{%- endif -%}
    {%- if ns.text -%}{{- SYSTEM_BEFORE ~ ns.text ~ SYSTEM_AFTER -}}{%- endif -%}
  {%- else -%}
    {%- if loop.first and DEFAULT -%}{{- SYSTEM_BEFORE ~ DEFAULT ~ SYSTEM_AFTER -}}{%- endif -%}
    {%- if message['role'] == ns.role or message['role'] not in ('user', 'assistant') -%}
      {{- raise_exception('user and assistant take turns, user first: not ' ~ message['role']) -}}
    {%- endif -%}
    {%- set ns.role = message['role'] -%}
    {%- if message['role'] == 'user' -%}
      {%- if SEES and ns.text.count(IMAGE) == 1 -%}
        {%- set ns.text = (IMAGE ~ '\\n' ~ (ns.text.replace(IMAGE, '') | trim)) | trim -%}
      {%- endif -%}
      {%- if loop.last and add_generation_prompt -%}
        {%- if ONE_TURN and ns.turns -%}
          {{- raise_exception('this model was trained on single questions: a conversation cannot go on') -}}
        {%- endif -%}
        {{- ASKED_BEFORE ~ ns.text ~ ASKED_AFTER -}}
      {%- else -%}
        {{- USER_BEFORE ~ ns.text ~ USER_AFTER -}}
      {%- endif -%}
      {%- set ns.turns = ns.turns + 1 -%}
    {%- else -%}
      {{- ASSISTANT ~ ns.text ~ SUFFIX -}}
    {%- endif -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ANSWER -}}{%- endif -%}
"""


def jinja(
    template: Template, *, bos: str, system: str = "", space: str = "", eos: str = "", pictures: bool = True
) -> str:
    """A chat template whose text, tokenised as it is, has the ids of training (`data.tokens.tokenise`).

    It takes a message as text or as a list of parts. One picture of a turn stands in front of its words; several stay
    where they are, as parts each with the end of its line. Without a system turn the model's own system prompt opens
    the conversation; an empty system turn leaves it out. Where a language model's evaluation asks with another template
    than the training's, the question that is to be answered has the ids of evaluation; answered ones have those of
    training.

    Args:
        template: of the training.
        bos: text of the token that opens a conversation; "" for none.
        system: what the training's records carried.
        space: a word's first space where the tokenizer adds one to every text: training encodes an answer by itself,
            here it follows other words.
        eos: text of the token that closes an answer of a template that is `plain`.
        pictures: whether the model sees any; without, a part that is one is refused, and its mark is a word.
    """
    before, after = template.instruction.split("{input}")
    asking = template if pictures else template.asking  # a LLaVA is always asked in the form of its training
    asked_before, asked_after = asking.instruction.split("{input}")
    if template.plain:
        cut = len(after)  # the assistant's words follow without a mark
    else:
        # An instruction goes on to where the assistant begins, with the same token that opens the user's turn.
        opening = before[: before.index(">") + 1]
        cut = after.rindex(opening)
    system_before, system_after = template.system.split("{system}")
    asked_cut = len(asked_after) - (len(after) - cut)
    pieces = {
        "SEES": pictures,
        "ONE_TURN": template.one_turn and not pictures,
        "BOS": bos,
        "IMAGE": IMAGE_TOKEN,
        "SYSTEM_BEFORE": system_before,
        "SYSTEM_AFTER": system_after,
        "DEFAULT": system,
        "USER_BEFORE": before,
        "USER_AFTER": after[:cut],
        "ASKED_BEFORE": asked_before,
        "ASKED_AFTER": asked_after[:asked_cut],
        "ASSISTANT": after[cut:] + space,
        "ANSWER": after[cut:],
        "SUFFIX": (eos if template.plain else template.suffix) + template.separator,
    }
    named = "".join(
        f"{{%- set {name} = {json.dumps(value, ensure_ascii=False)} -%}}\n" for name, value in pieces.items()
    )
    return named + _JINJA
