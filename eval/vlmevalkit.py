"""For those who prefer VLMEvalKit's own program: our models under its names, asked as `moslora eval` asks them.

    MOSLORA_MODEL=runs/moslora LMUData=DIR python -m moslora_xtuner.eval.vlmevalkit --model moslora --data MME
    ... torchrun --nproc-per-node 4 -m moslora_xtuner.eval.vlmevalkit --model moslora --data MME

runs VLMEvalKit's run.py with all its options; `register` does the same for programs of one's own. Prompts, images and
decoding are those of `moslora eval`, one question at a time; so are the answers, but for the rounding of batches.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

from moslora_xtuner.errors import DataError, MoSLoRAError, UsageError
from moslora_xtuner.progress import note

from . import vlmeval_imports
from .judges.reading import FAILED
from .models.precision import Precision
from .models.resolve import find
from .tasks import catalogue, tables
from .tasks.prompts import Question, build
from .tasks.questions import image_bytes

NAME = "moslora"
MODEL, PRECISION, DATA_ROOT = "MOSLORA_MODEL", "MOSLORA_PRECISION", "LMUData"


def register(name: str, model: str | Path, *, precision: str | None = None) -> None:
    """Give VLMEvalKit a model: `supported_VLM[name]`.

    Args:
        name: what VLMEvalKit's `--model` and its files call it.
        model: as for `moslora eval` (see `models.find`); loaded when VLMEvalKit builds it.
        precision: fp32, bf16, fp16 or 4bit.
    """
    from vlmeval.config import supported_VLM

    supported_VLM[name] = partial(_model_class(), str(model), precision)


@cache
def _model_class() -> Any:
    from vlmeval.vlm.base import BaseModel

    class MoSLoRALLaVA(BaseModel):
        """VLMEvalKit's view of one of our models."""

        INTERLEAVE = False

        def __init__(self, model: str, precision: str | None = None, **_: Any) -> None:
            super().__init__()
            self.model = find(model, precision=None if precision is None else Precision(precision))
            self.pool = self.model.pool(1, 1)
            self.images = tempfile.TemporaryDirectory(prefix="moslora-")

        def use_custom_prompt(self, dataset: str) -> bool:
            return catalogue.find(dataset) is not None

        def build_prompt(self, line: Any, dataset: str) -> list[dict[str, str]]:
            """Our text, and the picture's own bytes: VLMEvalKit's copies are encoded anew, some as JPEG."""
            row, benchmark = dict(line), catalogue.find(dataset)
            if benchmark is None:
                raise DataError(f"{dataset}: there is no prompt of ours for it; VLMEvalKit's own is to be taken.")
            message = [{"type": "text", "value": build(benchmark, row)}]
            root = Path(os.environ.get(DATA_ROOT, "."))
            image = image_bytes(row, root, dataset)
            if image is not None:
                path = Path(self.images.name) / "question.png"
                path.write_bytes(image)
                message.insert(0, {"type": "image", "value": str(path)})
            return message

        def generate_inner(self, message: list[dict[str, str]], dataset: str | None = None) -> str:
            """The answer to one question; of several images the first."""
            images = [Path(part["value"]).read_bytes() for part in message if part["type"] == "image"]
            if len(images) > 1:
                raise DataError(f"{dataset}: a question with {len(images)} images; this model reads one.")
            text = "\n".join(part["value"] for part in message if part["type"] == "text")
            benchmark = None if dataset is None else catalogue.find(dataset)
            longest = 512 if benchmark is None else benchmark.max_new_tokens
            question = Question(text, images[0] if images else None, longest)
            ((_, (answer,)),) = self.pool.run([[question]])
            return answer if isinstance(answer, str) else FAILED

    return MoSLoRALLaVA


def main() -> None:
    """Run VLMEvalKit's run.py with `moslora` among its models and local tables read as they are."""
    model = os.environ.get(MODEL)
    if not model:
        raise UsageError(f"{MODEL} is not set: it names the model that --model {NAME} stands for")
    run = vlmeval_imports.import_program()
    register(NAME, model, precision=os.environ.get(PRECISION))
    stock = run.build_dataset

    def build_dataset(dataset_name: str, **options: Any) -> Any:
        """A table that lies in LMUData is read as it is; VLMEvalKit would fetch another one for its md5."""
        root = Path(os.environ.get(DATA_ROOT, ""))
        benchmark = catalogue.find(dataset_name)
        if benchmark is not None and (root / f"{dataset_name}.tsv").is_file():
            return tables.local_dataset(benchmark, root)
        return stock(dataset_name, **options)

    run.build_dataset = build_dataset
    _gloo_without_gpu()
    run.main()


def _gloo_without_gpu() -> None:
    """WORK-AROUND ms-vlmeval 0.0.20 (run.py): under torchrun it asks for nccl.

    Which a machine without a GPU does not have. Can go when run.py picks the backend by device.
    """
    import torch

    if torch.cuda.is_available():
        return
    stock = torch.distributed.init_process_group
    torch.distributed.init_process_group = lambda backend, **options: stock("gloo", **options)


if __name__ == "__main__":
    try:
        main()
    except MoSLoRAError as fault:
        note(f"error: {fault}")
        raise SystemExit(fault.exit_code) from None
