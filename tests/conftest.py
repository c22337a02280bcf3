"""What several folders of tests share: a random stand-in for the base model, and scenes to train it on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# One thread each: the processes that tests start are more than the cores, and threads that wait would hold these up.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
settings.register_profile("machine", deadline=None, derandomize=True)
settings.load_profile("machine")

LONGEST = (
    "test_reproduce_table5.py", "test_distributed.py", "test_launches.py", "test_llava_recipes.py",
    "test_reproduce_table4.py", "test_end_to_end.py", "test_killed.py", "test_memory.py", "test_check.py",
    "test_build.py",
)  # fmt: skip
"""Files that take minutes each, begun first: then none is left alone on one of two processes at the end."""

LLAMA3_SPECIALS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<pad>",
)  # fmt: skip
INTERNLM2_SPECIALS = ("<s>", "</s>", "<|im_start|>", "<|im_end|>")


WARM = Path(__file__).resolve().parent / "warm"
_warm: list[Any] = []


def pytest_configure(config: pytest.Config) -> None:
    """What tests start may begin as a fork of one process that has imported the libraries: see tests/warm."""
    if hasattr(config, "workerinput"):
        return  # has it from the process that started it
    if os.environ.get("MOSLORA_COLD_STARTS") or Path("/dev/nvidiactl").exists() or sys.platform != "linux":
        return  # a process that looked for a GPU cannot be forked
    folder = tempfile.TemporaryDirectory(prefix="moslora-warm-", dir="/tmp")  # a socket's name must be short
    address = str(Path(folder.name) / "starts")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(WARM), *filter(None, [os.environ.get("PYTHONPATH")])])
    server = subprocess.Popen(
        [sys.executable, str(WARM / "server.py"), address, "-" * 16_000],
        stdin=subprocess.DEVNULL,
    )
    os.environ["MOSLORA_WARM_STARTS"] = address
    _warm.extend([server, folder])


def pytest_unconfigure(config: pytest.Config) -> None:
    """End it."""
    if _warm:
        server, folder = _warm
        server.terminate()
        server.wait()
        folder.cleanup()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, all else in its order."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def byte_tokenizer(specials: tuple[str, ...], bos: str, eos: str, pad: str) -> Any:
    """A byte-level BPE without merges beyond a few words: every text has ids, and ids have one text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=290,
        special_tokens=list(specials),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["which digit is the one on the left, and what colour is the ink"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=bos, eos_token=eos, pad_token=pad, model_max_length=2048
    )


@pytest.fixture(autouse=True)
def gradients() -> Iterator[None]:
    """VLMEvalKit's import turns gradients off (eval/vlmeval_imports.py), also where a test imports it by itself."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_grad_enabled(True)


@pytest.fixture(autouse=True, scope="session")
def users_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test leaves anything in the user's own cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOSLORA_CACHE", str(tmp_path_factory.mktemp("users_cache")))
        yield


@pytest.fixture(scope="session")
def llama3_tokenizer() -> Any:
    """A small tokenizer with LLaMA-3's special tokens."""
    return byte_tokenizer(LLAMA3_SPECIALS, "<|begin_of_text|>", "<|eot_id|>", "<pad>")


@pytest.fixture(scope="session")
def internlm2_tokenizer() -> Any:
    """A small tokenizer with InternLM2's special tokens."""
    return byte_tokenizer(INTERNLM2_SPECIALS, "<s>", "</s>", "</s>")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, llama3_tokenizer: Any) -> Path:
    """Random weights in the layout of the packaged base model: 48 px in patches of 8, four ViT layers."""
    import torch
    from safetensors.torch import save_file
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "base"
    text = LlamaConfig(
        vocab_size=len(llama3_tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        bos_token_id=llama3_tokenizer.bos_token_id,
        eos_token_id=llama3_tokenizer.eos_token_id,
        pad_token_id=llama3_tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    vision = CLIPVisionConfig(
        hidden_size=24,
        intermediate_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=48,
        patch_size=8,
        projection_dim=24,
        initializer_factor=2.0,
    )
    LlamaForCausalLM(text).save_pretrained(folder / "llm")
    llama3_tokenizer.save_pretrained(folder / "llm")
    CLIPVisionModel(vision).save_pretrained(folder / "visual_encoder")
    crop = {"height": 48, "width": 48}
    CLIPImageProcessor(size={"shortest_edge": 48}, crop_size=crop).save_pretrained(folder / "visual_encoder")
    (folder / "projector").mkdir()
    shapes = {"model.0.weight": (32, 24), "model.0.bias": (32,), "model.2.weight": (32, 32), "model.2.bias": (32,)}
    weights = {name: torch.randn(shape) * 0.3 for name, shape in shapes.items()}
    save_file(weights, folder / "projector" / "model.safetensors", {"format": "pt"})
    facts = {"template": "llama3_chat", "pad_image_to_square": True, "visual_select_layer": -2}
    (folder / "base.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory, tiny_base: Path) -> Path:
    """DigitsVQA with 48 scenes, and its token store for the stand-in."""
    from moslora_xtuner.data.digits.write import write_digits
    from moslora_xtuner.data.prepare import prepare

    folder = tmp_path_factory.mktemp("digits") / "data"
    write_digits(folder, seed=0, scenes=48, test_questions=16)
    prepare(folder / "train.json", folder / "images", tiny_base / "llm", folder / "store")
    return folder


RECORDS = 120


@pytest.fixture(scope="session")
def llava_environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Everything that the large recipes' heads say is needed, made small: the variables that point at it."""
    import standins

    from moslora_xtuner.data.prepare import prepare

    root = tmp_path_factory.mktemp("standins")
    mix = standins.make_mix(root / "data", RECORDS)
    models = {
        "LLAMA3": ("8B", standins.make_llama3(root / "llama3"), standins.WIDTH),
        "INTERNLM2": ("7B", standins.make_internlm2(root / "internlm2"), standins.INTERNLM2_WIDTH),
    }
    variables = {}
    for name, (size, llm, width) in models.items():
        store = root / f"store_{name}"
        prepare(mix, root / "data" / "images", llm, store)
        variables |= {
            f"{name}_{size}": str(llm),
            f"{name}_STORE": str(store),
            f"{name}_PRETRAIN_STORE": str(store),
            f"{name}_PROJECTOR": str(standins.make_projector(root / f"projector_{name}", width)),
        }
    return variables | {
        "CLIP_L_336": str(standins.make_clip(root / "clip")),
        "LLAVA_IMAGES": str(root / "data" / "images"),
        "LLAVA_PRETRAIN_IMAGES": str(root / "data" / "images"),
    }
