"""MosLoraLLaVA computes what XTuner's own LLaVA computes, and refuses what does not fit."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_llava import PATCHES, adapters, build, parts
from torch import nn

from moslora_xtuner.data.dataset import TokenStore, collate
from moslora_xtuner.errors import DataError
from moslora_xtuner.training.adapted_model import padded_right
from moslora_xtuner.training.loop import LOSS_DIVISOR


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> Any:
    return build(tiny_base)


@pytest.fixture(scope="module")
def stock(tiny_base: Path, model: Any) -> Any:
    """XTuner's LLaVAModel with the same adapters and the same weights."""
    from xtuner.model import LLaVAModel

    torch.manual_seed(1)
    other = LLaVAModel(
        **parts(tiny_base),
        freeze_llm=True,
        freeze_visual_encoder=True,
        use_activation_checkpointing=False,
        **adapters(),
    )
    state = nn.Module.state_dict(model)
    nn.Module.load_state_dict(other, state, strict=True)
    return other


@pytest.fixture(scope="module")
def store(tiny_data: Path, tiny_base: Path) -> TokenStore:
    from transformers import CLIPImageProcessor

    processor = CLIPImageProcessor.from_pretrained(tiny_base / "visual_encoder")
    return TokenStore(str(tiny_data / "store"), str(tiny_data / "images"), processor)


def places(store: TokenStore, images: int, texts: int) -> list[int]:
    """Records with and without an image, the latter first and last as well."""
    lengths = store.modality_length
    with_image = [place for place, length in enumerate(lengths) if length > 0][:images]
    without = [place for place, length in enumerate(lengths) if length < 0][:texts]
    assert len(with_image) == images
    assert len(without) == texts
    return [*without[:1], *with_image, *without[1:]]


@pytest.mark.parametrize(("images", "texts"), [(3, 0), (2, 1), (1, 2), (0, 2)])
def test_loss_and_gradients_equal_stock_xtuner(
    model: Any, stock: Any, store: TokenStore, images: int, texts: int
) -> None:
    from xtuner.dataset.collate_fns import default_collate_fn

    rows = [store[place] for place in places(store, images, texts)]
    ours = collate(copy.deepcopy(rows), PATCHES)["data"]
    for row in rows:
        # XTuner has one image a record, and sends a zero one for text.
        row["pixel_values"] = row["pixel_values"][0] if "pixel_values" in row else torch.zeros(3, 48, 48)
    theirs = default_collate_fn(rows)["data"]
    if not images:
        del theirs["pixel_values"]
    grads = []
    losses = []
    for llava, data in ((model, ours), (stock, theirs)):
        llava.zero_grad()
        llava.train()
        loss = llava(data)["loss"]
        loss.backward()
        losses.append(loss.item())
        grads.append({n: p.grad.clone() for n, p in llava.named_parameters() if p.grad is not None})
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert losses[0] > 0.1
    for name, wanted in grads[1].items():
        scale = wanted.abs().max().clamp(min=1e-6)
        assert (grads[0][name] - wanted).abs().max() / scale < 1e-3, name


@pytest.mark.parametrize("tuned", [True, False])
@pytest.mark.parametrize("divisor", [None, 40])
def test_the_fast_way_is_the_same_training(
    tiny_base: Path, store: TokenStore, tuned: bool, divisor: int | None
) -> None:
    """Labelled places alone, no mask: the loss and every gradient, with padding and with both means of the loss."""
    data = collate([store[place] for place in places(store, 3, 2)], PATCHES)["data"]
    assert not bool(data["attention_mask"].all())
    if divisor is not None:
        data[LOSS_DIVISOR] = torch.tensor(divisor)
    losses, grads = [], []
    for fast in (False, True):
        llava = build(tiny_base, tuned=tuned, chunked_loss=fast, skip_padding_mask=fast).train()
        loss = llava(dict(data))["loss"]
        loss.backward()
        losses.append(loss.item())
        grads.append({n: p.grad for n, p in llava.named_parameters() if p.grad is not None})
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert grads[0].keys() == grads[1].keys()
    for name, wanted in grads[0].items():
        assert (grads[1][name] - wanted).norm() <= 1e-5 * wanted.norm(), name


def test_padding_on_the_left_keeps_its_mask(tiny_base: Path) -> None:
    llava = build(tiny_base, skip_padding_mask=True).eval()
    ids = torch.randint(6, 200, (2, 12))
    mask = torch.ones(2, 12, dtype=torch.bool)
    mask[1, :4] = False
    data = {"input_ids": ids, "labels": ids, "attention_mask": mask}
    llava.skip_padding_mask = False
    wanted = llava(dict(data))["loss"]
    llava.skip_padding_mask = True
    assert torch.equal(llava(dict(data))["loss"], wanted)
    assert padded_right(mask.flip(1))
    assert not padded_right(mask)


def test_attention_is_asked_without_a_mask(tiny_base: Path, store: TokenStore) -> None:
    """Seen at the kernels that run: with a mask every layer of the language model is given one, without it none."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Masks(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.given: list[bool] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if "scaled_dot_product" in str(func) and args[0].shape[1] == 4:  # the language model's heads
                self.given.append((kwargs or {}).get("attn_mask") is not None)
            return func(*args, **(kwargs or {}))

    data = collate([store[place] for place in places(store, 2, 1)], PATCHES)["data"]
    found = []
    for skip in (False, True):
        llava = build(tiny_base, skip_padding_mask=skip)
        with torch.no_grad(), Masks() as masks:
            llava(dict(data))
        found.append(masks.given)
    assert found == [[True, True], [False, False]]


def test_the_loss_depends_on_the_picture(model: Any, store: TokenStore) -> None:
    data = collate([store[place] for place in places(store, 2, 0)], PATCHES)["data"]
    before = model(data)["loss"].item()
    swapped = {**data, "pixel_values": data["pixel_values"].flip(0)}
    assert abs(model(swapped)["loss"].item() - before) > 1e-4


def test_a_batch_without_images_gives_every_parameter_a_gradient(model: Any, store: TokenStore) -> None:
    """Else the ranks of a group would wait for different parameters."""
    model.zero_grad()
    model.train()
    model(collate([store[place] for place in places(store, 0, 2)], PATCHES)["data"])["loss"].backward()
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, p in trainable.items() if p.grad is None] == []
    visual = [p.grad for name, p in trainable.items() if not name.startswith("llm.")]
    assert visual
    assert all(not grad.any() for grad in visual)
    assert any(p.grad.any() for name, p in trainable.items() if name.startswith("llm."))


def test_the_image_features_fill_their_places_in_order(model: Any, store: TokenStore) -> None:
    """The embeddings that reach the language model, put together by hand from its three parts."""
    data = collate([store[place] for place in places(store, 2, 1)], PATCHES)["data"]
    seen: dict[str, torch.Tensor] = {}
    hook = model.llm.get_base_model().model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    with torch.no_grad():
        model(data, mode="tensor")
        hidden = model.visual_encoder(data["pixel_values"], output_hidden_states=True).hidden_states[-2]
        features = model.projector(hidden[:, 1:])
    hook.remove()
    embedding = model.llm.get_input_embeddings().weight
    image = 0
    for row, ids in enumerate(data["input_ids"].tolist()):
        patch = 0
        for place, token in enumerate(ids):
            if token == -200:
                wanted = features[image, patch]
                patch += 1
            else:
                wanted = embedding[token]
            assert torch.allclose(seen["inputs_embeds"][row, place], wanted, atol=1e-6)
        assert patch in (0, PATCHES)
        image += patch == PATCHES
    assert image == 2


@pytest.mark.parametrize("image_tokens", [35, 37, 18])
def test_a_wrong_number_of_image_tokens_is_refused(model: Any, store: TokenStore, image_tokens: int) -> None:
    """Fewer places than features would otherwise shift every later image's features in silence."""
    data = collate([store[place] for place in places(store, 2, 0)], image_tokens)["data"]
    with pytest.raises(DataError, match=f"{2 * image_tokens} image places .* 2 images of 36 patches"):
        model(data)


def test_an_unknown_mode_is_refused(model: Any, store: TokenStore) -> None:
    with pytest.raises(NotImplementedError, match="loss, predict and tensor"):
        model(collate([store[0]], PATCHES)["data"], mode="x")


def test_only_adapters_and_projector_train(model: Any) -> None:
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all("lora_" in name or name.startswith("projector.") for name in trained)
    assert {name.split(".")[0] for name in trained} == {"llm", "visual_encoder", "projector"}
    assert any("lora_AB" in name for name in trained)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_a_number_stops_before_the_update(bad: float) -> None:
    from mmengine.model import BaseModel

    from moslora_xtuner.errors import TrainingError
    from moslora_xtuner.model import MosLoraLLaVA

    class Bare(MosLoraLLaVA):
        def __init__(self) -> None:
            BaseModel.__init__(self)
            self.llm = torch.nn.Linear(3, 1)

    with pytest.raises(TrainingError, match=r"the loss is (nan|inf|-inf): nothing was updated"):
        Bare().parse_losses({"loss": torch.tensor(bad)})
    total, _ = Bare().parse_losses({"loss": torch.tensor(2.0)})
    assert total.item() == 2.0
    lenient = Bare()
    lenient.bad_batches = 1
    total, _ = lenient.parse_losses({"loss": torch.tensor(bad)})
    total.backward()
    assert lenient.llm.weight.grad is not None
    assert not lenient.llm.weight.grad.any()  # nothing is learnt from it
    assert (lenient.bad_batches, lenient.skipped.here) == (0, True)
    with pytest.raises(TrainingError):
        lenient.parse_losses({"loss": torch.tensor(bad)})
