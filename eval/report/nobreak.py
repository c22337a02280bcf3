"""Words that a browser must not break: after a hyphen it takes "MMB-EN" apart, and a sign from its number."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup

LONGEST = 18
"""Characters of a word that is kept whole; a longer one may have to be broken on a telephone."""
_TOGETHER = re.compile(r"(?<=\d) (?=%)|(?<=\bp) (?=[=<])|(?<=\bp [=<]) (?=\d)")


def whole_words(text: object) -> Markup:
    """The text, escaped, each word of up to LONGEST characters with a hyphen or plus sign in a span that stays whole.

    A longer name may be broken after an underscore.
    """
    from markupsafe import Markup, escape

    words = []
    for word in _TOGETHER.sub("\u00a0", str(text)).split(" "):
        if len(word) > LONGEST:
            words.append(escape(word).replace("_", Markup("_<wbr>")))
        elif any(sign in word for sign in "-+/"):
            words.append(Markup('<span class="w">{}</span>').format(word))
        else:
            words.append(escape(word))
    return Markup(" ").join(words)
