"""Models as training leaves them, and what they say themselves: the answers that an engine is held against.

The digits' base model in three forms (a LLaMA, the InternLM2 that it is as well, a LLaMA with one weight for embedding
and head), in float32, bf16 and NF4, with adapters that change their answers.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moslora_xtuner.digits_base import digits_base

FAMILIES = ("llama", "internlm2", "tied")
KINDS = ("fp32", "bf16", "nf4")
RANK = 8
NEW_TOKENS = 8


def make_bases(root: Path) -> dict[str, Path]:
    """The three forms of the digits' base model."""
    made = {"llama": digits_base() / "llm"}
    for name in ("internlm2", "tied"):
        made[name] = Path(shutil.copytree(digits_base() / "llm", root / name))
    _as_internlm2(made["llama"], made["internlm2"])
    _tie(made["tied"])
    return made


def _as_internlm2(source: Path, target: Path) -> None:
    """The same numbers as an InternLM2: q, k, v of a group of heads in one matrix, and other names."""
    from safetensors.torch import load_file, save_file

    from moslora_xtuner.llm.internlm2_as_llama import NAMES

    config = json.loads((source / "config.json").read_text(encoding="utf-8"))
    heads, shared = config["num_attention_heads"], config["num_key_value_heads"]
    weights, made = load_file(source / "model.safetensors"), {}
    for name, weight in weights.items():
        if ".self_attn." in name and name.split(".")[-2] in ("k_proj", "v_proj"):
            continue
        if name.endswith("self_attn.q_proj.weight"):
            parts = [weights[name.replace("q_proj", f"{letter}_proj")] for letter in "qkv"]
            grouped = [
                part.unflatten(0, (shared, count, -1))
                for part, count in zip(parts, (heads // shared, 1, 1), strict=True)
            ]
            weight = torch.cat(grouped, dim=1).flatten(0, 2)
            name = name.replace("self_attn.q_proj", "attention.wqkv")
        for old, new in NAMES.items():
            name = old + name.removeprefix(new) if name.startswith(f"{new}.") else name.replace(f".{new}.", f".{old}.")
        made[name] = weight.contiguous()
    save_file(made, target / "model.safetensors", {"format": "pt"})
    told = {
        "model_type": "internlm2",
        "architectures": ["InternLM2ForCausalLM"],
        "bias": False,
        "attn_implementation": "eager",
    }
    (target / "config.json").write_text(json.dumps({**config, **told}), encoding="utf-8")


def _tie(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = weights.pop("lm_head.weight")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}), encoding="utf-8")


def train(llm: Path, family: str, kind: str, run: Path) -> Any:
    """A model with MoSLoRA whose factors are drawn, not learned, and the run's folder that its training would leave."""
    from transformers import BitsAndBytesConfig, CLIPVisionModel

    from moslora_xtuner.adapters import MosLoraConfig
    from moslora_xtuner.llm.load import load_llm
    from moslora_xtuner.llm.quantise_on_cpu import quantise_on_cpu
    from moslora_xtuner.llm.weights import content_of
    from moslora_xtuner.model import MosLoraLLaVA
    from moslora_xtuner.training.artifacts import TrainingRecord
    from moslora_xtuner.training.hooks import quantisation_of, write_parts

    quantise_on_cpu()
    eyes = digits_base() / "visual_encoder"
    options: dict[str, Any] = {"torch_dtype": torch.bfloat16 if kind == "bf16" else torch.float32}
    if kind == "nf4":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype="float32",
        )
    targets = ["wqkv", "wo", "w2"] if family == "internlm2" else ["q_proj", "v_proj", "down_proj"]
    torch.manual_seed(0)
    model = MosLoraLLaVA(
        llm=load_llm(llm, **options),
        visual_encoder=CLIPVisionModel.from_pretrained(eyes, torch_dtype=options["torch_dtype"]),
        freeze_llm=True,
        freeze_visual_encoder=True,
        use_activation_checkpointing=False,
        projector_weights=str(digits_base() / "projector"),
        llm_lora=MosLoraConfig(r=RANK, lora_alpha=2 * RANK, task_type="CAUSAL_LM", target_modules=targets),
        visual_encoder_lora=MosLoraConfig(r=RANK, lora_alpha=RANK, target_modules=["v_proj", "fc1"]),
    ).eval()
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.copy_(torch.randn(weight.shape, generator=generator) * (0.03 if "lora_B" in name else 0.3))
    model.to(options["torch_dtype"]) if kind == "bf16" else None
    folder = run / "adapters"
    folder.mkdir(parents=True)
    write_parts(model, folder)
    loaded = str(options["torch_dtype"]).removeprefix("torch.")
    TrainingRecord(
        llm=str(llm),
        visual_encoder=str(eyes),
        template="llama3_chat",
        pad_image_to_square=True,
        visual_select_layer=-2,
        dtype=dict.fromkeys(("llm", "visual_encoder", "projector"), loaded),
        base={"llm": content_of(llm), "visual_encoder": content_of(eyes)},
        **quantisation_of(model),
    ).write(folder)
    return model


@torch.no_grad()
def answers(model: Any, llm: Path, folder: Path) -> tuple[list[str], Tensor]:
    """What a trained model says to each question, greedily, and the logits behind the first one's first token."""
    from transformers import CLIPImageProcessor

    from moslora_xtuner.data.images.opening import open_image
    from moslora_xtuner.data.images.preprocess import ToPixels
    from moslora_xtuner.data.reading.records import Record
    from moslora_xtuner.data.tokens.chat_templates import get_template
    from moslora_xtuner.data.tokens.tokenise import IMAGE_TOKEN_INDEX, Encoder, tokenise
    from moslora_xtuner.llm.load import load_tokenizer

    tokenizer, template = load_tokenizer(llm), get_template("llama3_chat")
    to_pixels = ToPixels(CLIPImageProcessor.from_pretrained(digits_base() / "visual_encoder"))
    encoder, stop = Encoder(tokenizer), tokenizer.convert_tokens_to_ids("<|eot_id|>")
    said, first = [], None
    for question in json.loads((folder / "questions.json").read_text(encoding="utf-8")):
        record = Record("x", ("x",), ((f"<image>\n{question['question']}", ""),))
        ((ids, _),) = tokenise([record], encoder, template)
        row = torch.tensor(ids[:-1])  # without the suffix of the empty answer
        pixels = to_pixels(open_image(folder, question["picture"]))[None]
        features = model._features(pixels)[0]
        words = model.llm.get_input_embeddings()(row.clamp(min=0))
        (mark,) = torch.nonzero(row == IMAGE_TOKEN_INDEX).flatten().tolist()
        embeds = torch.cat([words[:mark], features.to(words.dtype), words[mark + 1 :]])[None]
        cache, made = None, []
        inputs: dict[str, Any] = {"inputs_embeds": embeds}
        for _ in range(NEW_TOKENS):
            out = model.llm(**inputs, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            first = out.logits[0, -1].float() if first is None else first
            token = int(out.logits[0, -1].argmax())
            if token == stop:
                break
            made.append(token)
            inputs = {"inputs_embeds": model.llm.get_input_embeddings()(torch.tensor([[token]]))}
        said.append(tokenizer.decode(made, skip_special_tokens=True).strip())
    assert first is not None
    return said, first
