"""The validation loss is that of a plain loop over the records in float64, and leaves no trace in the training."""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny_llava
import torch
from text_models import KINDS, build
from validated import Rows, made_up, runner

from moslora_xtuner.data.dataset import TokenStore, collate
from moslora_xtuner.errors import DataError, TrainingError
from moslora_xtuner.training.validation import measure
from moslora_xtuner.training.validation.measure import Records, mean_loss


def records(dataset: Any, size: int = 2, most: int | None = None, image_tokens: int = 1) -> Records:
    def gathered(rows: list[Any]) -> Any:
        return collate(rows, image_tokens)

    return Records(
        dataset, gathered, image_tokens=image_tokens, records=size, most_places=most, workers=0, pin_memory=False
    )


def cross_entropies(logits: torch.Tensor, labels: Sequence[int]) -> list[float]:
    """Of one record, place by place."""
    return [
        -float(logits[place - 1].log_softmax(-1)[label])
        for place, label in enumerate(labels)
        if place and label != -100
    ]


@torch.no_grad()
def by_hand(model: Any, rows: Rows) -> float:
    """Each record by itself and without padding, through the layers as transformers and PEFT call them, in float64."""
    llm = copy.deepcopy(model).double().eval().llm.get_base_model()
    found: list[float] = []
    for ids, labels in rows.rows:
        found += cross_entropies(llm(input_ids=torch.tensor([ids])).logits[0], labels)
    return sum(found) / len(found)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("options", [{}, {"chunked_loss": True, "skip_padding_mask": True, "fused_adapters": True}])
def test_of_a_language_model(kind: str, options: dict[str, bool], tmp_path: Path) -> None:
    """AdaLoRA's too, whose loss in training has its regulariser besides."""
    model, rows = build(kind, **options).train(), made_up(7)
    assert mean_loss(runner(model, tmp_path, []), records(rows)) == pytest.approx(by_hand(model, rows), rel=1e-5)


@pytest.mark.parametrize(("size", "most"), [(1, None), (3, None), (7, None), (100, 12)])
def test_no_cut_changes_it(size: int, most: int | None, tmp_path: Path) -> None:
    model, rows = build(), made_up(7)
    assert mean_loss(runner(model, tmp_path, []), records(rows, size, most)) == pytest.approx(
        by_hand(model, rows), 1e-5
    )


def test_a_record_without_labels_changes_nothing(tmp_path: Path) -> None:
    model, rows = build(chunked_loss=True), made_up(5)
    wanted = by_hand(model, rows)
    more = Rows([*rows.rows, ([4, 5, 6], [-100, -100, -100])])
    for size in (1, 2, 6):
        assert mean_loss(runner(model, tmp_path, []), records(more, size)) == pytest.approx(wanted, rel=1e-5)
        assert 5 not in {row for batch in records(more, size).own for row in batch.rows}
    with pytest.raises(DataError, match="no validation record has a place with a loss"):
        records(Rows([([4, 5, 6], [7, -100, -100])]))


@torch.no_grad()
def llava_by_hand(model: Any, store: TokenStore) -> float:
    """The pictures' features put between the words' embeddings record by record, in float64."""
    model = copy.deepcopy(model).double().eval()
    llm, found = model.llm.get_base_model(), []
    for row in (store[place] for place in range(len(store))):
        states = []
        labels: list[int] = []
        for token, label in zip(row["input_ids"], row["labels"], strict=True):
            if token == -200:
                seen = model.visual_encoder(row["pixel_values"].double(), output_hidden_states=True)
                states.append(model.projector(seen.hidden_states[-2][:, 1:])[0])
                labels += [label] * tiny_llava.PATCHES
            else:
                states.append(llm.get_input_embeddings()(torch.tensor([token])))
                labels.append(label)
        found += cross_entropies(llm(inputs_embeds=torch.cat(states)[None]).logits[0], labels)
    return sum(found) / len(found)


def test_of_a_llava(tiny_base: Path, tiny_data: Path, tmp_path: Path) -> None:
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor.from_pretrained(tiny_base / "visual_encoder")
    store = TokenStore(str(tiny_data / "store"), str(tiny_data / "images"), processor)
    assert 0 < (store.image_counts == 0).sum() < len(store)
    model = tiny_llava.build(tiny_base, chunked_loss=True, skip_padding_mask=True)
    found = mean_loss(runner(model, tmp_path, []), records(store, 8, image_tokens=tiny_llava.PATCHES))
    assert found == pytest.approx(llava_by_hand(model, store), rel=1e-5)


def test_no_trace_is_left(tmp_path: Path) -> None:
    """Modes part by part, random numbers of all kinds, gradients."""
    model = build("lora")
    model.train()
    model.llm.get_base_model().lm_head.eval()  # a part that somebody holds in another mode
    drop = torch.nn.Dropout(0.5)

    def draw(*_: Any) -> None:
        drop(torch.ones(3))
        random.random()
        np.random.rand()

    model.llm.get_base_model().register_forward_pre_hook(draw)
    modes = [part.training for part in model.modules()]

    def drawn() -> tuple[Any, ...]:
        return torch.rand(2).tolist(), random.random(), float(np.random.rand())

    found = []
    for look in (False, True):
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        if look:
            mean_loss(runner(model, tmp_path, []), records(made_up(5)))
        found.append(drawn())
    assert found[0] == found[1]
    assert [part.training for part in model.modules()] == modes
    assert all(weight.grad is None for weight in model.parameters())
    assert torch.is_grad_enabled()


def test_a_fault_brings_the_modes_back(tmp_path: Path) -> None:
    model = build().train()
    model.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError("no room")))
    with pytest.raises(TrainingError, match=r"in the validation, out of memory in iteration 1 .*batch_size=N"):
        mean_loss(runner(model, tmp_path, []), records(made_up(5)))
    assert model.training


def test_dropout_is_off_and_watchers_are_told(tmp_path: Path) -> None:
    from peft import LoraConfig
    from small_llama import build_llama, randomise

    from moslora_xtuner.causal_lm import MosLoraCausalLM

    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.9, task_type="CAUSAL_LM")
    model = MosLoraCausalLM(build_llama(), config, use_activation_checkpointing=True).train()
    randomise(model)
    rows, told = made_up(6), []
    found = mean_loss(runner(model, tmp_path, []), records(rows, 1), lambda: told.append(1))
    assert found == pytest.approx(by_hand(model, rows), rel=1e-5)
    assert len(told) == sum(any(label != -100 for label in labels[1:]) for _, labels in rows.rows)


def test_what_another_process_repeats_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes by turns, their sums added up as all_reduce does."""
    model, rows = build(), Rows([row for row in made_up(20).rows if len(row[0]) > 4][:5])
    sums: list[torch.Tensor] = []
    monkeypatch.setattr(measure, "all_reduce", lambda total: sums.append(total.clone()))
    monkeypatch.setattr(measure, "get_world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(measure, "get_rank", lambda rank=rank: rank)
        mean_loss(runner(model, tmp_path, []), records(rows))
    total = sums[0] + sums[1]
    assert int(total[1]) == sum(sum(label != -100 for label in labels[1:]) for _, labels in rows.rows)
    assert float(total[0] / total[1]) == pytest.approx(by_hand(model, rows), rel=1e-5)


def test_infinite_is_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build()
    monkeypatch.setattr(measure, "_forward", lambda *_: torch.tensor([float("inf"), 3.0]))
    assert np.isnan(mean_loss(SimpleNamespace(model=model, iter=0), records(made_up(2))))
