"""The model card says what the model is, what it was made from and how it is loaded, and nothing of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from moslora_xtuner.export.card import read_losses
from moslora_xtuner.export.merge import export


def metadata(card: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(card.split("---")[1])
    return found


def test_what_it_says(tuned: tuple[Any, Path], tmp_path: Path) -> None:
    import shutil

    run = Path(shutil.copytree(tuned[1], tmp_path / "run"))
    file = run / "adapters" / "training.json"
    more = {
        "steps": 163, "seconds": 7200.0, "seed": 5, "system": "Be brief.", "trainable": {"llm": 1234},
        "data": {"records": 5200, "sources": "train.json (sha256 abc)"}, "settings": {"lr": 2e-3},
        "validation": {"records": 120, "step": 150, "loss": None, "keep": "last", "times": 4, "losses": [[150, None]]},
    }  # fmt: skip
    file.write_text(json.dumps({**json.loads(file.read_text()), **more}))
    log = run / "20261128" / "vis_data" / "scalars.json"
    log.parent.mkdir(parents=True)
    log.write_text("".join(json.dumps({"step": n, "loss": 2.0 / n}) + "\n" for n in range(1, 20)) + '{"lr": 1}\n')
    out = export(run, tmp_path / "out", name="mine", scores="| a | b |\n|---|---|\n| 1 | 2 |")
    card = (out / "README.md").read_text()
    assert metadata(card)["pipeline_tag"] == "image-text-to-text"
    assert metadata(card)["library_name"] == "transformers"
    kind = "MoSLoRA (learned mixer)" if "moslora" in str(tuned[1]) else "LoRA"
    for said in (
        "# mine", f"tuned with {kind} of rank 4, alpha 8 on the language model", "| steps | 163 |", "| time | 2.00 h |",
        "| seed | 5 |", "| system prompt | Be brief. |", "| trained weights | llm 1,234 |", "| data, records | 5200 |",
        "| lr | 0.002 |", "| adapter of | iteration 150, validation loss no finite number, the last step's |",
        "| validation, records | 120 |", "![Loss over steps](loss.png)", "| 1 | 2 |", "vllm serve .", "Licence",
    ):  # fmt: skip
        assert said in card, said
    assert str(tmp_path) not in card
    assert (out / "loss.png").read_bytes().startswith(b"\x89PNG")
    apart = (export(run, tmp_path / "lora", format="lora") / "README.md").read_text()
    assert metadata(apart)["library_name"] == "peft"
    assert "vllm serve base --enable-lora --max-lora-rank 8 --lora-modules tuned=adapter" in apart


def test_losses_of_a_run_that_was_resumed(tmp_path: Path) -> None:
    for name, lines in (("1", [(1, 3.0), (2, 2.5)]), ("2", [(2, 2.4), (3, float("nan")), (4, 2.0)])):
        log = tmp_path / name / "vis_data" / "scalars.json"
        log.parent.mkdir(parents=True)
        log.write_text("".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in lines) + "cut {")
    assert read_losses(tmp_path) == [(1, 3.0), (2, 2.4), (4, 2.0)]
    assert read_losses(tmp_path / "adapters") == [(1, 3.0), (2, 2.4), (4, 2.0)]
    assert read_losses(tmp_path / "adapters" / "last") == [(1, 3.0), (2, 2.4), (4, 2.0)]
    assert read_losses(tmp_path / "1") == []
