"""The quantised layers of PEFT that may have mixers; imported when there is one, and with it its library."""

from __future__ import annotations

from peft.import_utils import is_bnb_4bit_available, is_bnb_available
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.torchao import TorchaoLoraLinear

from .layer import MixedLayer


class MixedTorchaoLinear(MixedLayer, TorchaoLoraLinear):
    """TorchaoLoraLinear with a mixer in one adapter at least."""


MIXED_CLASSES: dict[type[LoraLayer], type[MixedLayer]] = {TorchaoLoraLinear: MixedTorchaoLinear}

if is_bnb_available():
    from peft.tuners.lora.bnb import Linear8bitLt

    class MixedLinear8bitLt(MixedLayer, Linear8bitLt):
        """LLM.int8() with a mixer in one adapter at least."""

    MIXED_CLASSES[Linear8bitLt] = MixedLinear8bitLt

if is_bnb_4bit_available():
    from peft.tuners.lora.bnb import Linear4bit

    class MixedLinear4bit(MixedLayer, Linear4bit):
        """NF4 or FP4 with a mixer in one adapter at least."""

    MIXED_CLASSES[Linear4bit] = MixedLinear4bit
