"""Seeds of LoRA, a frozen mixer and MoSLoRA on small worlds, in the eight commonsense forms, with a rank test.

    python scripts/study_commonsense.py -o runs/study --seeds 20
    python scripts/study_commonsense.py -o runs/study --seeds 20 --processes 2 --write docs/results

The base is the digits' language model, taught the words of other worlds (synthetic/worlds_base). A seed sets the
training questions and the adapters' start, and is the same for all methods, so that their scores are compared seed by
seed; the tests are always the same. An adapter is trained by a plain loop on stock transformers and PEFT, since
XTuner's own start (its imports, DeepSpeed, a runner) costs as much here as a training; the questions are asked and
scored by `moslora eval`. Whatever is done in the output folder is not done again, so the study can be interrupted and
widened.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Any

import torch
from commonsense_study.outcome import METHODS, Study, figure, table
from peft import LoraConfig, get_peft_model
from synthetic.worlds_base.build import build
from transformers import AutoModelForCausalLM, AutoTokenizer

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.atomic import atomic_json, atomic_write
from moslora_xtuner.data.reading.records import Record
from moslora_xtuner.data.tokens.chat_templates import get_template
from moslora_xtuner.data.tokens.tokenise import IGNORE_INDEX, Encoder, Tokens, tokenise
from moslora_xtuner.data.worlds.forms import samples
from moslora_xtuner.data.worlds.writing import TABLES, write_worlds
from moslora_xtuner.eval.evaluator import evaluate
from moslora_xtuner.eval.results import scores
from moslora_xtuner.eval.settings import Settings
from moslora_xtuner.output import claim
from moslora_xtuner.versions import installed_versions

TARGETS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
MIXERS: dict[str, dict[str, Any] | None] = {
    "LoRA": None,
    "frozen mixer": {"mixer": "learned", "mixer_init": "kaiming_uniform", "freeze_mixer": True},
    "MoSLoRA": {"mixer": "learned", "mixer_init": "kaiming_uniform"},
}
"""The mixer of each method: all else is the same."""


def adapter_config(method: str, rank: int) -> LoraConfig:
    """The authors' targets, alpha twice the rank, dropout 0.05."""
    options: dict[str, Any] = {
        "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.05, "target_modules": TARGETS, "task_type": "CAUSAL_LM",
    }  # fmt: skip
    mixer = MIXERS[method]
    return LoraConfig(**options) if mixer is None else MosLoraConfig(**options, **mixer)


def learnt(tokenizer: Any, seed: int, count: int, loss: str) -> list[Tokens]:
    """The training questions of a seed as ids and labels, in the text that evaluation asks with."""
    template = get_template("alpaca_as_asked")
    turns = [((sample.instruction, sample.output),) for sample in samples(count, seed, test=False)]
    records = [Record(str(number), (), turn) for number, turn in enumerate(turns)]
    return tokenise(records, Encoder(tokenizer, plain=True), template, loss)  # type: ignore[arg-type]


def batches(rows: list[Tokens], size: int, seed: int, pad: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Every question once, in an order that the seed draws, padded on the right."""
    order = Random(seed).sample(range(len(rows)), len(rows))
    for start in range(0, len(order) - size + 1, size):
        chosen = [rows[place] for place in order[start : start + size]]
        width = max(len(ids) for ids, _ in chosen)
        ids = torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in chosen])
        yield ids, torch.tensor([labels + [IGNORE_INDEX] * (width - len(labels)) for _, labels in chosen])


def train(base: Path, out: Path, method: str, seed: int, args: argparse.Namespace) -> None:
    """Train one adapter and save it as PEFT does; `training.json` is written last and says that it is whole."""
    torch.manual_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), adapter_config(method, args.rank))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=args.rate, weight_decay=0.0)
    rows = learnt(tokenizer, seed, args.steps * args.batch, args.loss)
    begun, losses = time.process_time(), []
    for step, (ids, labels) in enumerate(batches(rows, args.batch, seed, tokenizer.pad_token_id)):
        for group in optimiser.param_groups:
            group["lr"] = args.rate * min((step + 1) / args.warmup, 1 - step / args.steps)
        # Padding on the right is seen by no token before it.
        loss = model(input_ids=ids, labels=labels).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    model.save_pretrained(out)
    seconds = time.process_time() - begun
    facts = {"method": method, "seed": seed, "trained": sum(weight.numel() for weight in weights)}
    atomic_json(
        out / "done.json", {**facts, "cpu_seconds": round(seconds, 1), "losses": losses[:: max(1, len(losses) // 50)]}
    )


def score(model: Path, data: Path, out: Path, name: str) -> dict[str, float]:
    """The eight scores of a model by `moslora eval`, 0 to 100."""
    (run,) = evaluate([model], ["small-worlds"], data / TABLES, out, Settings(batch_size=64, quiet=True), names=[name])
    found = scores.read(run)
    return {dataset: found.normalised(dataset) or 0.0 for dataset in found.benchmarks}


def seed_of_all(
    seed: int, base: Path, data: Path, args: argparse.Namespace
) -> dict[str, tuple[dict[str, float], float]]:
    """Train what is missing of one seed and ask it: each method's scores and its training's CPU seconds."""
    torch.set_num_threads(1)
    found = {}
    for method in args.methods:
        name = f"{method.lower().replace(' ', '-')}-{seed}"
        adapter = args.out / "train" / name
        if not (adapter / "done.json").is_file():
            train(base, adapter, method, seed, args)
        scored = score(adapter, data, args.out / "eval", name)
        found[method] = scored, float(json.loads((adapter / "done.json").read_text())["cpu_seconds"])
        print(name, f"{sum(scored.values()) / len(scored):.1f}", flush=True)
    return found


def main() -> None:
    """Run what is missing, then print and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20, help="how many, from 0 on")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--base", type=Path, help="a language model's folder, instead of the small one made here")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--loss", choices=("answer", "all"), default="answer")
    parser.add_argument("--questions", type=int, default=150, help="in each of the eight tests")
    parser.add_argument("--processes", type=int, default=1, help="seeds at a time, one core each")
    parser.add_argument("--write", type=Path, help="folder for commonsense_study.json, .md and .png")
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = ("steps", "batch", "rate", "warmup", "rank", "loss", "questions")
    settings = {name: getattr(args, name) for name in names}
    claim(args.out, "commonsense study", settings)
    base = args.base or args.out / "base"
    if args.base is None and not (base / "built.json").is_file():
        seconds = build(base, seed=0, tell=partial(print, flush=True))
        atomic_json(base / "built.json", {"cpu_seconds": round(seconds, 1)})
    data = write_worlds(args.out / "data", records=8, test_questions=args.questions)
    found = {"base": [score(base, data, args.out / "eval", "base")]}
    costs: dict[str, list[float]] = {}
    # Seeds outside, methods inside: an interrupted study still compares like with like.
    with ProcessPoolExecutor(args.processes, mp_context=get_context("spawn")) as pool:
        work = partial(seed_of_all, base=base, data=data, args=args)
        for row in pool.map(work, range(args.seeds)):
            for method, (scored, seconds) in row.items():
                found.setdefault(method, []).append(scored)
                costs.setdefault(method, []).append(seconds)
    settings |= {"seeds": args.seeds, "base": "small" if args.base is None else args.base.name}
    built = json.loads((base / "built.json").read_text())["cpu_seconds"] if args.base is None else None
    study = Study(found, costs, settings, built)
    text = table(study)
    print(text)
    if args.write:
        args.write.mkdir(parents=True, exist_ok=True)
        made = {"date": date.today().isoformat(), "machine": platform.machine(), "versions": installed_versions()}
        atomic_json(args.write / "commonsense_study.json", {**made, **study.as_json()})
        atomic_write(args.write / "commonsense_study.md", text)
        figure(study, args.write / "commonsense_study.png")


if __name__ == "__main__":
    main()
