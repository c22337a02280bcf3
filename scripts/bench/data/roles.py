"""What runs in the measured processes: XTuner's way and this package's, each printing its own times as JSON.

Packages are imported before a clock starts, so that the times are those of the work alone.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

BATCH = 16
RANKS = 4
MARK = "measured: "


def main() -> None:
    """`roles.py ROLE ARGUMENTS...`"""
    role, *arguments = sys.argv[1:]
    if role.endswith("-ranks") and "RANK" not in os.environ:
        print(MARK + json.dumps(_launch()), flush=True)
        return
    import xtuner.dataset.collate_fns
    import xtuner.dataset.map_fns
    import xtuner.dataset.samplers  # noqa: F401
    from transformers import AutoTokenizer, CLIPImageProcessor  # noqa: F401

    import moslora_xtuner.data.dataset
    import moslora_xtuner.data.prepare
    import moslora_xtuner.data.sampler  # noqa: F401

    found = {
        "stock-prepare": stock_prepare,
        "our-prepare": our_prepare,
        "stock-ranks": partial(ranks, stock_dataset),
        "our-ranks": partial(ranks, our_dataset),
        "our-start": our_start,
    }[role](*arguments)
    print(MARK + json.dumps(found), flush=True)


def stock_dataset(mix: str, tokenizer: str) -> Any:
    """XTuner's dataset of a JSON, with 2 of its 32 fixed processes: with all of them 24 GB do not do."""
    import datasets
    import xtuner.dataset.huggingface as upstream
    from transformers import AutoTokenizer, CLIPImageProcessor
    from xtuner.dataset import LLaVADataset
    from xtuner.dataset.map_fns import llava_map_fn, template_map_fn_factory
    from xtuner.utils import PROMPT_TEMPLATE

    datasets.disable_caching()
    datasets.disable_progress_bars()
    whole = upstream.process
    upstream.process = lambda **options: whole(**{**options, "map_num_proc": 2})
    return LLaVADataset(
        image_folder=str(Path(mix).parent / "images"),
        image_processor=CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
        data_path=mix,
        tokenizer=AutoTokenizer.from_pretrained(tokenizer),
        dataset_map_fn=llava_map_fn,
        template_map_fn=template_map_fn_factory(template=PROMPT_TEMPLATE.llama3_chat),
        max_length=2048 - 576,
        pad_image_to_square=True,
    )


def our_dataset(store: str, tokenizer: str) -> Any:
    """This package's dataset of a store."""
    from transformers import AutoTokenizer, CLIPImageProcessor

    from moslora_xtuner.data.dataset import TokenStore

    manifest = json.loads((Path(store) / "store.json").read_text())
    return TokenStore(
        store,
        str(Path(store).parent / "images"),
        CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
        AutoTokenizer.from_pretrained(tokenizer),
        manifest["template"],
    )


def first_batch(dataset: Any) -> dict[str, float]:
    """Seconds for the sampler and for the first batch of a training on this dataset."""
    from torch.utils.data import DataLoader
    from xtuner.dataset import LLaVADataset
    from xtuner.dataset.collate_fns import default_collate_fn
    from xtuner.dataset.samplers import LengthGroupedSampler as StockSampler

    from moslora_xtuner.data.dataset import collate
    from moslora_xtuner.data.sampler import LengthGroupedSampler

    began = time.perf_counter()
    stock = isinstance(dataset, LLaVADataset)
    sampler: Any
    if stock:
        sampler = StockSampler(dataset, BATCH, length_property="modality_length", seed=0)
    else:
        sampler = LengthGroupedSampler(dataset, BATCH, length_property="modality_lengths", seed=0)
    loader = DataLoader(
        dataset,
        BATCH,
        sampler=sampler,
        collate_fn=default_collate_fn if stock else partial(collate, image_tokens=576),
    )
    batches = iter(loader)
    order = time.perf_counter()
    next(batches)
    return {"sampler": order - began, "batch": time.perf_counter() - order}


def stock_prepare(mix: str, tokenizer: str) -> dict[str, float]:
    """From a JSON to a dataset, and on to the first batch: what each launch of stock XTuner does."""
    began = time.perf_counter()
    dataset = stock_dataset(mix, tokenizer)
    seconds = time.perf_counter() - began
    return {"seconds": seconds, "records": len(dataset), **first_batch(dataset)}


def our_prepare(mix: str, tokenizer: str, store: str) -> dict[str, float]:
    """From a JSON to a store, every image decoded."""
    from moslora_xtuner.data.prepare import prepare

    shutil.rmtree(store, ignore_errors=True)
    began = time.perf_counter()
    made = prepare(mix, Path(mix).parent / "images", tokenizer, Path(store))
    return {"seconds": time.perf_counter() - began, "records": made["records"]}


def our_start(store: str, tokenizer: str) -> dict[str, float]:
    """From a store to the first batch: what each launch does."""
    began = time.perf_counter()
    dataset = our_dataset(store, tokenizer)
    return {"seconds": time.perf_counter() - began, **first_batch(dataset)}


def ranks(make: Any, *arguments: str) -> dict[str, float]:
    """Four processes as a launch has them, each up to its first batch; seconds of the slowest."""
    from torch import distributed

    distributed.init_process_group("gloo")
    began = time.perf_counter()
    dataset = make(*arguments)
    first_batch(dataset)
    seconds = time.perf_counter() - began
    distributed.barrier()
    time.sleep(3)  # all of them stand ready, which is what the memory of a training begins with
    distributed.barrier()
    return {"seconds": seconds}


def _launch() -> dict[str, float]:
    import socket
    import subprocess

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(RANKS)}
    processes = [
        subprocess.Popen(
            [sys.executable, *sys.argv], env={**common, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True
        )
        for rank in range(RANKS)
    ]
    found = []
    for process in processes:
        out, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"error: a rank ended with status {process.returncode}")
        found.append(json.loads(next(line for line in out.splitlines() if line.startswith(MARK))[len(MARK) :]))
    return {"seconds": max(rank["seconds"] for rank in found)}


if __name__ == "__main__":
    main()
