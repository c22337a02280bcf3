"""What can be wrong with a record or its image, by name, and what to do about it.

A fault would lose the record, crash the training or teach nonsense: `check` fails, `prepare` and training stop, unless
a budget for bad records is given. A remark is counted and shown, and changes nothing.
"""

from __future__ import annotations

from enum import Enum


class Kind(str, Enum):
    """A kind of problem; its value is what people and files call it."""

    BROKEN_JSON = "broken JSON"
    NOT_UTF_8 = "not UTF-8"
    NOT_AN_OBJECT = "not an object"
    REPEATED_KEY = "repeated key"
    MISSING_ID = "missing id"
    BAD_TEXT = "bad text"
    IMAGE_IS_NULL = "image is null"
    BAD_IMAGE = "bad image"
    TOO_MANY_IMAGES = "too many images"
    UNREAD_MEDIA = "unread media"
    IMAGE_OUTSIDE_THE_FOLDER = "image outside the folder"
    MISSING_IMAGE = "missing image"
    UNREADABLE_IMAGE = "unreadable image"
    TRUNCATED_IMAGE = "truncated image"
    ZERO_SIZE_IMAGE = "zero-size image"
    DECOMPRESSION_BOMB = "decompression bomb"
    SIXTEEN_BIT_IMAGE = "16-bit image"
    EMPTY_CONVERSATION = "empty conversation"
    BAD_MESSAGE = "bad message"
    UNKNOWN_ROLE = "unknown role"
    TURN_ORDER = "turn order"
    IMAGE_TOKEN = "image token"
    EMPTY_ANSWER = "empty answer"
    NO_ANSWER_LEFT = "no answer left"
    IMAGE_CUT_OFF = "image cut off"

    DUPLICATE_ID = "duplicate id"
    UNUSED_FIELD = "unused field"
    CONTROL_TOKEN = "control token"
    OVER_LONG_TEXT = "over-long text"
    WRONG_EXTENSION = "wrong extension"
    ANIMATED_IMAGE = "animated image"
    CMYK_IMAGE = "CMYK image"
    PALETTE_IMAGE = "palette image"
    IMAGE_WITH_TRANSPARENCY = "image with transparency"
    TURNED_IMAGE = "turned image"

    def __str__(self) -> str:
        return str(self.value)

    @property
    def fault(self) -> bool:
        """Whether a record with it cannot be trained on as it is."""
        return self in FAULTS


FAULTS: dict[Kind, str] = {
    Kind.BROKEN_JSON: "mend the text at this byte; --fix leaves out what cannot be read",
    Kind.NOT_UTF_8: "convert the record's text to UTF-8",
    Kind.NOT_AN_OBJECT: "every record is a JSON object",
    Kind.REPEATED_KEY: "JSON readers keep the last of two equal keys: delete one",
    Kind.MISSING_ID: "give the record an id; --fix does",
    Kind.BAD_TEXT: "take the lone surrogate (half of a character) out of the text; --fix does",
    Kind.IMAGE_IS_NULL: "leave the key out for a text-only record; --fix does",
    Kind.BAD_IMAGE: "the image is one path, or a list of paths",
    Kind.TOO_MANY_IMAGES: "raise --max-images if the model takes several images a record",
    Kind.UNREAD_MEDIA: "pictures stand under image or images, as paths; sound and video cannot be trained on",
    Kind.IMAGE_OUTSIDE_THE_FOLDER: "image paths are relative and stay inside the image folder; --fix mends what can be",
    Kind.MISSING_IMAGE: "download it, or correct the path; --fix finds it under another extension, case, Unicode form",
    Kind.UNREADABLE_IMAGE: "replace the file",
    Kind.TRUNCATED_IMAGE: "download the file again",
    Kind.ZERO_SIZE_IMAGE: "download the file again",
    Kind.DECOMPRESSION_BOMB: "shrink the picture (fewer pixels, or fewer on its longer side), or leave its record out",
    Kind.SIXTEEN_BIT_IMAGE: "convert it to 8 bits: as it is, nearly all of it would turn white",
    Kind.EMPTY_CONVERSATION: "a record needs a question and an answer",
    Kind.BAD_MESSAGE: "every message has a role and a text",
    Kind.UNKNOWN_ROLE: "roles are human and gpt (or user, assistant, system and the like)",
    Kind.TURN_ORDER: "human and gpt alternate, human first, gpt last; --fix cuts what stands alone at the ends",
    Kind.IMAGE_TOKEN: "as many <image> in the human's words as images; --fix sees to it; \\<image> is the word",
    Kind.EMPTY_ANSWER: "an answer has words, or a flag (loss, weight) of 0, which takes it out of the loss",
    Kind.NO_ANSWER_LEFT: "raise --max-length: cut there, the record has nothing to learn",
    Kind.IMAGE_CUT_OFF: "raise --max-length: cut there, the record has lost its image",
}
"""Each with its remedy."""
REMARKS: dict[Kind, str] = {
    Kind.DUPLICATE_ID: "LLaVA's own mix names records by image, so this is usual; every record is kept",
    Kind.UNUSED_FIELD: "nothing reads it",
    Kind.CONTROL_TOKEN: "encoded as the text that it is; --control-tokens keeps its meaning",
    Kind.OVER_LONG_TEXT: "tokens beyond --max-length are cut",
    Kind.WRONG_EXTENSION: "read by its content, as the OCR-VQA .jpg files that are GIF or PNG",
    Kind.ANIMATED_IMAGE: "its first frame is used",
    Kind.CMYK_IMAGE: "converted to RGB without a colour profile",
    Kind.PALETTE_IMAGE: "converted to RGB",
    Kind.IMAGE_WITH_TRANSPARENCY: "its transparent places are seen as white",
    Kind.TURNED_IMAGE: "its orientation tag is followed, as viewers do",
}
"""Each with what is done with it."""
