"""A conversation in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from ..errors import MoSLoRAError
from ..eval.models.conversation import Partner, Turn, read_picture, require_no_pictures
from ..progress import note

SHOW = "/image FILE shows a picture with your next words"
ANEW = "/reset begins anew"
END = "/quit or Ctrl-D ends"
ALONE = "each question stands by itself, nothing said before is part of it"


def commands(partner: Partner) -> str:
    """What can be typed beside words, and whether they are remembered."""
    return ", ".join([SHOW] * partner.sees + [ANEW if partner.remembers else ALONE, END])


class Conversation:
    """What was said, and what will be said next.

    Args:
        partner: who answers.
        picture: a file that goes with the first words.
        system: the system prompt; None leaves the model's own.
        new_tokens: of an answer at most.
    """

    def __init__(
        self, partner: Partner, picture: Path | None = None, system: str | None = None, new_tokens: int = 512
    ) -> None:
        self.partner, self.system, self.new_tokens = partner, system, new_tokens
        self.turns: list[Turn] = []
        self.pictures: list[bytes] = []
        if picture is not None:
            require_no_pictures(partner.name, not partner.sees)
            self.pictures.append(read_picture(picture))

    def obey(self, line: str) -> bool:
        """Do what a line that begins with / asks for; False ends the conversation."""
        word, _, rest = line.partition(" ")
        if word in ("/quit", "/exit"):
            return False
        if word == "/reset":
            self.turns, self.pictures = [], []
            note("a new conversation")
        elif word == "/image" and rest.strip():
            try:
                require_no_pictures(self.partner.name, not self.partner.sees)
                self.pictures.append(read_picture(Path(rest.strip()).expanduser()))
                note(f"{rest.strip()} goes with your next words")
            except MoSLoRAError as fault:
                note(f"error: {fault}")
        else:
            note(commands(self.partner))
        return True

    def say(self, line: str) -> None:
        """Say something and print the answer as it comes; what fails is not part of the conversation."""
        asked = [*self.turns, Turn("user", line, tuple(self.pictures))]
        said: list[str] = []
        try:
            for piece in self.partner.reply(asked, self.system, self.new_tokens):
                piece = piece if any(said) else piece.lstrip()
                sys.stdout.write(piece)
                sys.stdout.flush()
                said.append(piece)
        except MoSLoRAError as fault:
            note(f"{chr(10) if said else ''}error: {fault}")
            return
        except KeyboardInterrupt:
            note("\n(broken off; it is not part of the conversation)")
            return
        sys.stdout.write("\n")
        sys.stdout.flush()
        kept = [*asked, Turn("assistant", "".join(said).strip())] if self.partner.remembers else []
        self.turns, self.pictures = kept, []


def talk(conversation: Conversation, lines: Iterable[str]) -> None:
    """Go through lines until they end or one says so."""
    for line in lines:
        line = line.strip()
        if line.startswith("/"):
            if not conversation.obey(line):
                return
        elif line:
            conversation.say(line)


def typed(prompt: str) -> Iterable[str]:
    """Lines that a person types, or that another program sends."""
    while True:
        try:
            yield input(prompt if sys.stdin.isatty() else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            note("")
            return
