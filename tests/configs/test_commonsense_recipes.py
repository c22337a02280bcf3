"""The recipes of the paper's section 4.1: its values, Table 4's counts, and that they differ in the adapter alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import instructions
import pytest
import torch
from mmengine.config import Config
from peft import PeftModel, get_peft_model
from places import CONFIGS
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM
from xtuner.registry import BUILDER

from moslora_xtuner.data.dataset import TokenStore, collate
from moslora_xtuner.data.prepare import prepare
from moslora_xtuner.data.tokens.store import Table
from moslora_xtuner.eval.models.text_folders import adapter_of, text_folders
from moslora_xtuner.export.merge import export
from moslora_xtuner.training.hooks import write_parts
from moslora_xtuner.training.launch import train

LLAMA3_8B = {
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
# Of the shapes: r (4096 + out) of q, k, v and up, r (14336 + 4096) of down, in 32 layers; and what Table 4 prints.
LORA, MIXERS, NORMS = 28_311_552, 40_960, 786_432
COUNTS = {
    "commonsense_lora": (LORA, "28.3M"),
    "commonsense_lora_r32": (2 * LORA, None),
    "commonsense_ts_mixing": (LORA, None),
    "commonsense_ts_mixing_r32": (2 * LORA, None),
    "commonsense_moslora": (LORA + MIXERS, "28.4M"),
    "commonsense_moslora_orthogonal": (LORA + MIXERS, None),
    "commonsense_moslora_identity": (LORA + MIXERS, None),
    "commonsense_moslora_normal": (LORA + MIXERS, None),
    "commonsense_moslora_zero": (LORA + MIXERS, None),
    "commonsense_frozen_mixer": (LORA, None),
    "commonsense_flora": (LORA + MIXERS, "28.4M"),
    "commonsense_lokr": (901_120, "0.9M"),
    "commonsense_loha": (LORA, "28.3M"),
    "commonsense_adalora": (LORA + 16 * 5 * 32, "28.3M"),
    "commonsense_dora": (LORA + NORMS, "29.1M"),
    "commonsense_dora_r32": (2 * LORA + NORMS, "57.4M"),
}
HELD_OUT = 7
KEPT = ("adapters/llm/adapter_model.safetensors", "adapters/last/llm/adapter_model.safetensors")
RECIPES = sorted(path.stem for path in CONFIGS.glob("commonsense_*.py"))


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = Config.fromfile(CONFIGS / f"{name}.py").to_dict()
    return found


def test_every_recipe_has_its_count() -> None:
    assert sorted(COUNTS) == RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_the_trained_weights_of_llama3_8b_are_those_of_table_4(name: str) -> None:
    with torch.device("meta"):
        model = get_peft_model(
            LlamaForCausalLM(LlamaConfig(**LLAMA3_8B)), BUILDER.build(load(name)["model"]["llm_lora"])
        )
    assert all(p.is_meta for p in model.parameters())
    wanted, printed = COUNTS[name]
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == wanted
    assert printed in (None, f"{wanted / 1e6:.1f}M")
    assert f"{wanted:,} weights" in (CONFIGS / f"{name}.py").read_text(encoding="utf-8")


def test_rank_16_of_table_7_would_not_give_what_table_4_prints() -> None:
    """Why LoHa and LoKr have rank 8."""
    for name, wanted in (("commonsense_loha", 56_623_104), ("commonsense_lokr", 1_081_344)):
        config = {**load(name)["model"]["llm_lora"], "r": 16}
        with torch.device("meta"):
            model = get_peft_model(LlamaForCausalLM(LlamaConfig(**LLAMA3_8B)), BUILDER.build(config))
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == wanted


@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_differ_in_the_adapter_alone(name: str) -> None:
    base, other = load("commonsense_lora"), load(name)
    base["model"].pop("llm_lora")
    tuned = other["model"].pop("llm_lora")
    if "dora" in name:  # Table 7
        assert other["optim_wrapper"]["optimizer"].pop("lr") == 1e-4
        assert base["optim_wrapper"]["optimizer"].pop("lr") == 3e-4
    assert other == base
    assert set(tuned["target_modules"]) == {"q_proj", "k_proj", "v_proj", "up_proj", "down_proj"}


def test_the_values_of_table_7() -> None:
    config = load("commonsense_moslora")
    adapter = config["model"]["llm_lora"]
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (16, 32, 0.05)
    assert config["train_dataloader"]["batch_size"] * config["optim_wrapper"]["accumulative_counts"] == 16
    assert config["train_cfg"]["max_epochs"] == 3
    assert config["optim_wrapper"]["optimizer"]["lr"] == 3e-4
    assert config["param_scheduler"]["warmup_steps"] == 100
    assert config["train_dataloader"]["sampler"] == {"type": "mmengine.dataset.DefaultSampler", "shuffle": True}
    assert load("commonsense_dora_r32")["model"]["llm_lora"]["lora_alpha"] == 64
    for name in RECIPES:  # the scale of Table 7
        other = load(name)["model"]["llm_lora"]
        if "lora_alpha" in other:
            assert other["lora_alpha"] == 2 * other.get("init_r", other.get("r"))


# Stock PEFT, without this package: the logits of each adapter of a folder on the same base.
STOCK = """
import sys, torch
from pathlib import Path
from peft import PeftModel
from transformers import AutoModelForCausalLM
assert "moslora_xtuner" not in sys.modules
found = {}
for folder in sorted(Path(sys.argv[2]).iterdir()):
    model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
    model = PeftModel.from_pretrained(model, folder).eval()
    with torch.no_grad():
        found[folder.name] = model(input_ids=torch.arange(3, 43)[None]).logits
torch.save(found, sys.argv[3])
"""
OURS = {name for name in RECIPES if any(word in name for word in ("mixing", "moslora", "frozen", "flora"))}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, list[float]]]:
    """Every recipe's model on a small LLaMA, three steps: its adapter's folder, the logits, the losses."""
    root = tmp_path_factory.mktemp("methods")
    places = instructions.environment(root / "data", 16)
    store = TokenStore(places["COMMONSENSE_STORE"], template="alpaca", loss="all")
    data = collate([store[index] for index in range(2)])["data"]
    logits, losses = {}, {}
    for name in RECIPES:
        settings = load(name)["model"]
        settings["llm"]["pretrained_model_name_or_path"] = places["COMMONSENSE_LLM"]
        torch.manual_seed(0)
        model = BUILDER.build(Config(settings)).train()
        optimizer = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=3e-3)
        losses[name] = []
        for step in range(3):
            loss = model(dict(data))["loss"]
            loss.backward()
            optimizer.step()
            if "adalora" in name:
                model.llm.peft_config["default"].total_step = 3
                model.llm.base_model.update_and_allocate(step + 1)
            optimizer.zero_grad()
            losses[name].append(float(loss.detach()))
        write_parts(model, root / "adapters" / ("ours" if name in OURS else "stock") / name)
        with torch.no_grad():
            logits[name] = model.eval().llm(input_ids=torch.arange(3, 43)[None]).logits
    return root, logits, losses


@pytest.mark.slow
def test_every_method_learns_but_a_mixer_of_zeros(trained: tuple[Path, dict[str, Any], dict[str, list[float]]]) -> None:
    for name, losses in trained[2].items():
        assert (losses[-1] < losses[0] - 1e-3) is (name != "commonsense_moslora_zero"), (name, losses)


@pytest.mark.slow
def test_stock_peft_loads_what_is_stock(
    trained: tuple[Path, dict[str, Any], dict[str, list[float]]], tmp_path: Path
) -> None:
    """And refuses what is not: it would compute the wrong function."""
    root, logits, _ = trained
    folder = tmp_path / "adapters"
    folder.mkdir()
    for name in sorted(set(RECIPES) - OURS):
        (folder / name).symlink_to(root / "adapters" / "stock" / name / "llm")
    script = [sys.executable, "-c", STOCK, str(root / "data" / "llm")]
    subprocess.run([*script, str(folder), str(tmp_path / "found.pt")], check=True, capture_output=True)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found.keys() == set(RECIPES) - OURS
    for name, wanted in found.items():
        torch.testing.assert_close(wanted, logits[name], rtol=1e-4, atol=1e-5)
    for name in OURS:
        kind = json.loads((root / "adapters" / "ours" / name / "llm" / "adapter_config.json").read_text())["peft_type"]
        assert kind == "MOSLORA"


def plain_loss(llm: str, adapter: Path, store: Path) -> float:
    """Stock PEFT and transformers in float64, each record by itself, a mean over all places with a label."""
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llm), adapter).double().eval()
    total, places = 0.0, 0
    for row in map(Table(store / "records.arrow").row, range(HELD_OUT)):
        ids, labels = (torch.tensor(row[name].astype("int64")) for name in ("input_ids", "labels"))
        with torch.no_grad():
            logits = model(input_ids=ids[None]).logits[0]
        total += float(cross_entropy(logits[:-1], labels[1:], reduction="sum", ignore_index=-100))
        places += int((labels[1:] != -100).sum())
    return total / places


@pytest.mark.slow
def test_launched_on_two_processes_stopped_and_resumed_to_the_bit(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """`moslora train` with ZeRO-2 of the method that keeps most beside its weights; exported at the end.

    It climbs, so that an early adapter is the best: the resumed run keeps the same one.
    """
    places = {**instructions.environment(tmp_path / "data"), "OMP_NUM_THREADS": "1"}
    llm, held_out = places["COMMONSENSE_LLM"], tmp_path / "held_out"
    source = instructions.make_records(tmp_path / "validation.json", HELD_OUT, seed=5)
    prepare(source, tmp_path, Path(llm), held_out, template="alpaca")
    places["COMMONSENSE_VALIDATION"] = str(held_out)
    options = (
        "train_cfg.max_epochs=None", "train_cfg.max_iters=6", "optim_wrapper.accumulative_counts=2",
        "param_scheduler.warmup_steps=1", "optim_wrapper.optimizer.lr=3e-2", "train_dataloader.num_workers=0",
        "optim_wrapper.optimizer.maximize=True",
        "train_dataloader.persistent_workers=False", "default_hooks.checkpoint.interval=4",
        "default_hooks.validation.interval=2",
    )  # fmt: skip
    run = train("commonsense_adalora", processes=2, work_dir=tmp_path / "run", cfg_options=options, environment=places,
                progress=lambda *_: None)  # fmt: skip
    facts = json.loads((run / "adapters" / "training.json").read_text())
    assert (facts["visual_encoder"], facts["template"], facts["steps"]) == ("", "alpaca", 6)
    assert facts["trainable"].keys() == {"llm"}
    told = facts["validation"]
    losses = dict(told["losses"])
    assert list(losses) == [2, 4, 6]
    assert told["loss"] == min(losses.values()) == losses[told["step"]]
    assert told["step"] <= 4  # of before the checkpoint that it resumes from
    assert f"moslora: validation after iteration 6 of 6: loss {losses[6]:.4f} over 7 records" in capfd.readouterr().err
    log = [json.loads(line) for file in run.glob("*/vis_data/scalars.json") for line in file.read_text().splitlines()]
    assert {row["step"]: row["val_loss"] for row in log if "val_loss" in row} == losses
    for folder, step in ((run / "adapters", told["step"]), (run / "adapters" / "last", 6)):
        assert plain_loss(llm, folder / "llm", held_out) == pytest.approx(losses[step], rel=1e-5)
        assert json.loads((folder / "training.json").read_text())["validation"]["step"] == step
    whole = {name: load_file(run / name) for name in KEPT}
    for left in (run / "adapters", run / "iter_6.pth", run / "iter_6.state"):
        shutil.rmtree(left)
    assert not (run / ".best").exists()
    (run / "last_checkpoint").write_text("iter_4.pth")
    steps: list[int] = []
    train("commonsense_adalora", processes=2, work_dir=run, cfg_options=options, environment=places, resume="auto",
          progress=lambda step, *_: steps.append(step))  # fmt: skip
    again = {name: load_file(run / name) for name in KEPT}
    for name, weights in whole.items():
        assert again[name].keys() == weights.keys()
        assert all(torch.equal(again[name][key], value) for key, value in weights.items()), name
    assert json.loads((run / "adapters" / "training.json").read_text())["validation"] == told
    said: list[str] = []
    made = export(run, tmp_path / "export", tell=said.append)
    assert json.loads((made / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    kept = f"iteration {told['step']}, validation loss {told['loss']:.4f}, the lowest of 3"
    assert said[0].startswith(f"the adapter is of {kept}; merged into the base")
    card = (made / "README.md").read_text()
    assert f"| adapter of | {kept} |" in card
    assert "| validation, sources | validation.json (sha256 " in card
    form = json.loads((made / "moslora_export.json").read_text())
    assert form["source"]["validation"]["step"] == told["step"]
    assert "losses" not in form["source"]["validation"]
    assert adapter_of(text_folders(run)) == kept
    assert (
        adapter_of(text_folders(run / "adapters" / "last"))
        == f"iteration 6, validation loss {losses[6]:.4f}, the last step's"
    )
