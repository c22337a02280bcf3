"""An exported LLaVA as a model class of VLMEvalKit usually is: one question, the processor, `generate`."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from moslora_xtuner.eval.models.chat_format import chat_format
from moslora_xtuner.eval.tasks.prompts import build
from moslora_xtuner.eval.tasks.registry import BENCHMARKS


@cache
def stock_class() -> Any:
    """The class; a function, because VLMEvalKit is imported late."""
    import torch
    from PIL import Image
    from vlmeval.vlm.base import BaseModel

    class StockLLaVA(BaseModel):
        """transformers alone: greedy, no memory of images, nothing batched."""

        INTERLEAVE = False

        def __init__(self, folder: Path) -> None:
            from transformers import LlavaForConditionalGeneration, LlavaProcessor

            super().__init__()
            self.form = chat_format(folder)
            self.device = "cuda" if torch.cuda.is_available() else "cpu"
            dtype = torch.bfloat16 if self.device == "cuda" else torch.float32
            model: Any = LlavaForConditionalGeneration.from_pretrained(folder, torch_dtype=dtype)
            self.model = model.eval().to(self.device)
            self.processor: Any = LlavaProcessor.from_pretrained(folder)

        def use_custom_prompt(self, dataset: str) -> bool:
            return True

        def build_prompt(self, line: Any, dataset: str) -> list[dict[str, str]]:
            images = self.dump_image(line, dataset)
            text = {"type": "text", "value": build(BENCHMARKS[dataset], dict(line))}
            return [*({"type": "image", "value": path} for path in images), text]

        @torch.inference_mode()
        def generate_inner(self, message: list[dict[str, str]], dataset: str) -> str:
            image = Image.open(message[0]["value"]).convert("RGB")
            side = max(image.size)
            mean = tuple(int(255 * value) for value in self.processor.image_processor.image_mean)
            square = Image.new("RGB", (side, side), mean)
            square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
            text = self.form.prompt(f"{self.form.image_token}\n{message[1]['value']}")
            bos = self.processor.tokenizer.bos_token if self.form.bos else ""
            inputs = self.processor(images=square, text=bos + text, return_tensors="pt", add_special_tokens=False)
            inputs.pop("token_type_ids", None)  # the tokenizer's, which LLaMA does not take
            longest = BENCHMARKS[dataset].max_new_tokens
            inputs = inputs.to(self.device, self.model.dtype)  # of the pixels; ids stay whole numbers
            made = self.model.generate(**inputs, do_sample=False, max_new_tokens=longest)
            new = made[0, inputs["input_ids"].shape[1] :]
            return str(self.processor.tokenizer.decode(new, skip_special_tokens=True)).strip()

    return StockLLaVA
