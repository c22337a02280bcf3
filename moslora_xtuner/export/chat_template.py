"""The training's conversation as the Jinja template that every engine renders: the same tokens for the same words."""

from __future__ import annotations

import json

from ..data.instructions import IMAGE_TOKEN
from ..data.tokens.chat_templates import Template

_JINJA = """\
{%- set PICTURES = ['image', 'image_url', 'input_image'] -%}
{%- set ns = namespace(role='assistant', text='') -%}
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
        {{- raise_exception('this model reads text and images, not ' ~ part['type']) -}}
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
      {%- if ns.text.count(IMAGE) == 1 -%}
        {%- set ns.text = (IMAGE ~ '\\n' ~ (ns.text.replace(IMAGE, '') | trim)) | trim -%}
      {%- endif -%}
      {{- USER_BEFORE ~ ns.text ~ USER_AFTER -}}
    {%- else -%}
      {{- ASSISTANT ~ ns.text ~ SUFFIX -}}
    {%- endif -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- ANSWER -}}{%- endif -%}
"""


def jinja(template: Template, *, bos: str, system: str = "", space: str = "", eos: str = "") -> str:
    """A chat template whose text, tokenised as it is, has the ids of training (`data.tokens.tokenise`).

    It takes a message as text or as a list of parts. One picture of a turn stands in front of its words; several stay
    where they are, as parts each with the end of its line. Without a system turn the model's own system prompt opens
    the conversation; an empty system turn leaves it out.

    Args:
        template: of the training.
        bos: text of the token that opens a conversation; "" for none.
        system: what the training's records carried.
        space: a word's first space where the tokenizer adds one to every text: training encodes an answer by itself,
            here it follows other words.
        eos: text of the token that closes an answer of a template that is `plain`.
    """
    before, after = template.instruction.split("{input}")
    if template.plain:
        cut = len(after)  # the assistant's words follow without a mark
    else:
        # An instruction goes on to where the assistant begins, with the same token that opens the user's turn.
        opening = before[: before.index(">") + 1]
        cut = after.rindex(opening)
    system_before, system_after = template.system.split("{system}")
    pieces = {
        "BOS": bos,
        "IMAGE": IMAGE_TOKEN,
        "SYSTEM_BEFORE": system_before,
        "SYSTEM_AFTER": system_after,
        "DEFAULT": system,
        "USER_BEFORE": before,
        "USER_AFTER": after[:cut],
        "ASSISTANT": after[cut:] + space,
        "ANSWER": after[cut:],
        "SUFFIX": (eos if template.plain else template.suffix) + template.separator,
    }
    named = "".join(f"{{%- set {name} = {json.dumps(text, ensure_ascii=False)} -%}}\n" for name, text in pieces.items())
    return named + _JINJA
