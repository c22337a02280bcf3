"""What a plan says of a run that is ready, and of everything that is not, all at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import standins

from moslora_xtuner.data.prepare import prepare
from moslora_xtuner.errors import ConfigError
from moslora_xtuner.training.plan.outcome import Plan, require_ready, text
from moslora_xtuner.training.plan.setting import read_setting

Make = Callable[..., Plan]
MOSLORA = "llava_llama3_moslora"


def test_a_run_that_is_ready(make: Make) -> None:
    plan = make(MOSLORA, processes=2)
    assert plan.problems == []
    require_ready(plan)
    said = text(plan, 200)
    assert [step.title for step in plan.steps] == [
        "versions", "config keys", "GPUs and DeepSpeed", "language model", "visual encoder", "projector",
        "token store", "schedule", "memory of a GPU", "host and disk", "time",
    ]  # fmt: skip
    # By hand: q and o are 128 x 128, k and v 128 x 64, the three of the MLP 128 x 512; two layers; mixers 64 x 64.
    lora = 64 * ((128 + 128) * 2 + (128 + 64) * 2 + (128 + 512) * 3)
    assert "rank 64 on 14 layers" in said
    assert f"{2 * (lora + 7 * 64 * 64):,} trained" in said
    # 120 records on 2 processes, 8 a micro-batch: 60 / 8 = 7.5.
    assert "8 a micro-batch x 1 x 2 processes = 16 records a step" in said
    assert "8 steps, 2 of them warm-up" in said
    assert "120 records, 105 with a picture" in said


@pytest.mark.parametrize("name", ["llava_llama3_pretrain", "llava_internlm2_qmoslora", "llava_llama3_qmoslora"])
def test_other_kinds_are_ready_too(make: Make, name: str) -> None:
    small = "train_dataloader.batch_size=2"
    assert make(name, options=[small]).problems == []
    assert make(name, options=[small], gpus=4, gpu_memory=80).problems == []


def one(plan: Plan, title: str) -> str:
    """The only problem of a plan, which is of this step."""
    (problem,) = plan.problems
    assert [step.title for step in plan.steps if step.problems] == [title]
    with pytest.raises(ConfigError, match="1 problem, named above: nothing was started"):
        require_ready(plan)
    return problem


@pytest.mark.parametrize(
    ("option", "both"),
    [
        ("llm_path=/other", "model.llm.pretrained_model_name_or_path '"),
        ("visual_encoder_path=/other", "model.visual_encoder.pretrained_model_name_or_path '"),
        ("prompt_template=internlm2_chat", "train_dataloader.dataset.template 'llama3_chat'"),
        ("train_dataloader.dataset.template=internlm2_chat", "prompt_template is 'llama3_chat'"),
    ],
)
def test_what_a_recipe_says_twice_is_changed_twice_or_not(make: Make, option: str, both: str) -> None:
    plan = make(MOSLORA, options=[option])
    (keys,) = (step for step in plan.steps if step.title == "config keys")
    assert any(both in problem and "give --cfg-options for both" in problem for problem in keys.problems)


def test_one_base_changed_in_all_its_places(make: Make, llava_environment: dict[str, str], tmp_path: Path) -> None:
    other = Path(shutil.copytree(llava_environment["LLAMA3_8B"], tmp_path / "other"))
    name = "pretrained_model_name_or_path"
    places = ("llm_path", f"model.llm.{name}", f"train_dataloader.dataset.tokenizer.{name}")
    assert make(MOSLORA, options=[f"{place}={other}" for place in places]).problems == []
    plan = make(MOSLORA, options=[f"model.llm.pretrained_model_name_or_path={other}"])
    assert "llm_path is" in plan.problems[0]


def test_an_adapter_on_a_tied_head(make: Make, llava_environment: dict[str, str], tmp_path: Path) -> None:
    tied = Path(shutil.copytree(llava_environment["LLAMA3_8B"], tmp_path / "tied"))
    config = json.loads((tied / "config.json").read_text())
    (tied / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    head = "model.llm_lora.target_modules=[q_proj,lm_head]"
    problem = one(make(MOSLORA, env={"LLAMA3_8B": str(tied)}, options=[head]), "language model")
    assert "llm_lora adapts lm_head" in problem
    assert make(MOSLORA, options=[head]).problems == []


def test_weights_of_another_family(make: Make, llava_environment: dict[str, str]) -> None:
    plan = make(MOSLORA, env={"LLAMA3_8B": llava_environment["INTERNLM2_7B"]})
    assert "is a checkpoint of type 'internlm2', the recipe is for 'llama'" in plan.problems[0]
    assert len(plan.problems) == 1 or "token" in plan.problems[1]


def test_a_projector_of_another_width(make: Make, llava_environment: dict[str, str]) -> None:
    plan = make(MOSLORA, env={"LLAMA3_PROJECTOR": llava_environment["INTERNLM2_PROJECTOR"]})
    assert "model.0.weight is (512, 128) and not (128, 128)" in one(plan, "projector")


def test_a_missing_special_token(make: Make, llava_environment: dict[str, str], tmp_path: Path) -> None:
    llm = shutil.copytree(llava_environment["LLAMA3_8B"], tmp_path / "base")
    for file in llm.glob("*token*.json"):
        file.write_text(file.read_text().replace("<|eot_id|>", "<|other|>"))
    plan = make(MOSLORA, env={"LLAMA3_8B": str(llm)})
    assert any("has no token <|eot_id|>, which the template llama3_chat needs" in p for p in plan.problems)


def test_a_rank_larger_than_a_layer(make: Make) -> None:
    plan = make(MOSLORA, options=["model.llm_lora.r=300"])
    assert plan.llm is not None
    assert plan.llm.parameters < 3_000_000  # the base alone
    problem = one(plan, "language model")
    assert problem.startswith(
        "llm_lora: rank 300 is larger than the layer model.layers.0.self_attn.q_proj (128 to 128)"
    )


def test_an_unknown_mixer_init(make: Make) -> None:
    problem = one(make(MOSLORA, options=["model.llm_lora.mixer_init=ortho"]), "language model")
    assert "mixer_init" in problem
    assert "orthogonal" in problem


def test_targets_that_no_layer_has(make: Make) -> None:
    options = ["model.llm_lora.target_modules=[q_proj,wqkv]"]
    assert "llm_lora: no layer is called wqkv" in one(make(MOSLORA, options=options), "language model")


def test_gpus_that_are_not_here(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moslora_xtuner.training.plan.make.visible_gpus", lambda: 0)
    problem = one(
        make("llava_internlm2_qlora", gpus=4, options=["train_dataloader.batch_size=4"]), "GPUs and DeepSpeed"
    )
    assert "4 GPUs are asked for, this machine has 0" in problem


def test_a_key_that_nothing_reads(make: Make) -> None:
    problem = one(make(MOSLORA, options=["model.frezze_llm=True"]), "config keys")
    assert problem == "model.frezze_llm: MosLoraLLaVA has no 'frezze_llm'; did you mean freeze_llm?"


def test_a_variable_of_the_text(make: Make) -> None:
    problem = one(make(MOSLORA, options=["batch_size=4"]), "config keys")
    assert "batch_size: nothing reads it after the config is loaded" in problem


def test_four_bits_and_zero3(make: Make) -> None:
    plan = make("llava_internlm2_qmoslora", deepspeed="zero3", options=["train_dataloader.batch_size=2"])
    assert "cannot be cut up by ZeRO-3" in one(plan, "GPUs and DeepSpeed")


def test_a_card_too_small(make: Make) -> None:
    problem = one(make(MOSLORA, gpus=1, gpu_memory=0.1), "memory of a GPU")
    assert "a GPU has 0.1 GiB: lower train_dataloader.batch_size" in problem


def test_too_few_steps(make: Make) -> None:
    assert "2 steps: warm-up alone takes 2" in one(make(MOSLORA, processes=8), "schedule")


def test_a_missing_shard(make: Make, llava_environment: dict[str, str], tmp_path: Path) -> None:
    llm = shutil.copytree(llava_environment["LLAMA3_8B"], tmp_path / "llm")
    (llm / "model.safetensors").unlink()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (llm / "model.safetensors.index.json").write_text(json.dumps(index))
    (llm / "model-1.safetensors").touch()
    plan = make(MOSLORA, env={"LLAMA3_8B": str(llm)}, options=["model.llm_lora.r=300"])
    shard, rank = plan.problems  # one does not hide the other
    assert "lacks model-2.safetensors" in shard
    assert "rank 300" in rank


def test_a_store_of_another_tokenizer(make: Make, llava_environment: dict[str, str], tmp_path: Path) -> None:
    mix = standins.make_mix(tmp_path / "mix", 40)
    prepare(mix, tmp_path / "mix" / "images", llava_environment["INTERNLM2_7B"], tmp_path / "store")
    plan = make(MOSLORA, env={"LLAMA3_STORE": str(tmp_path / "store")})
    assert "was made with another tokenizer: prepare it again" in one(plan, "token store")


def test_data_that_is_prepared_at_the_launch(make: Make) -> None:
    plan = make(MOSLORA, options=["train_dataloader.dataset.data_path=mix.json"])
    assert plan.problems == []
    said = text(plan, 200)
    assert "data_path is tokenised at the launch: run `moslora data prepare`" in said
    assert "not counted: it depends on the token store" in said


def test_records_longer_than_the_model(make: Make, llava_environment: dict[str, str], tmp_path: Path) -> None:
    """2,000 tokens and 576 places are more than the stand-in's 2,048 positions."""
    images = Path(llava_environment["LLAVA_IMAGES"])
    name = next(path.name for path in images.iterdir())
    talk = [{"from": "human", "value": "<image>\nQ"}, {"from": "gpt", "value": "7 " * 3000}]
    (tmp_path / "a.json").write_text(json.dumps([{"id": "r", "image": name, "conversations": talk}]))
    prepare(tmp_path / "a.json", images, llava_environment["LLAMA3_8B"], tmp_path / "store", max_length=2000)
    plan = make(MOSLORA, env={"LLAMA3_STORE": str(tmp_path / "store")})
    assert any("the longest record has 2,575 tokens" in p and "takes 2,048" in p for p in plan.problems)


def test_everything_wrong_is_told_together(make: Make, tmp_path: Path) -> None:
    none = str(tmp_path / "none")
    env = {"LLAMA3_8B": none, "CLIP_L_336": none, "LLAMA3_STORE": none}
    plan = make(MOSLORA, env=env, deepspeed="zero9", options=["train_dataloader.bach_size=2"])
    assert [step.title for step in plan.steps if step.problems] == [
        "config keys", "GPUs and DeepSpeed", "language model", "visual encoder", "token store",
    ]  # fmt: skip


def test_what_is_not_here_is_not_downloaded(make: Make) -> None:
    plan = make(MOSLORA, env={"LLAMA3_8B": "meta-llama/Meta-Llama-3-8B-Instruct"})
    assert any("is not on this machine: `huggingface-cli download meta-llama/" in p for p in plan.problems)


def test_a_config_that_cannot_be_read(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("model = dict(")
    with pytest.raises(ConfigError, match="cannot be read: "):
        read_setting(str(broken))
    with pytest.raises(ConfigError, match="is no KEY=VALUE"):
        read_setting("digits_lora", options=["nothing"])


@pytest.mark.parametrize(("dtype", "sizes"), [("bfloat16", 2), ("float32", 4)])
def test_a_cpu_run_counts_in_the_number_type_that_the_config_asks_for(make: Make, dtype: str, sizes: int) -> None:
    plan = make(MOSLORA, options=[f"model.llm.torch_dtype=torch.{dtype}"])
    assert plan.llm is not None
    assert plan.visual is not None
    assert plan.memory is not None
    assert plan.memory.weights == sizes * (plan.llm.parameters + plan.visual.parameters)
    assert plan.setting.precision.mask == sizes  # a CPU's dropout draws the mask in its input's number type
    assert ("on the CPU in half precision" in text(plan, 200)) == (sizes == 2)


@pytest.mark.parametrize(("dtype", "copies"), [("bfloat16", 1), ("float32", 4)])
def test_processes_share_the_pages_of_files_that_are_loaded_as_they_are(
    make: Make, llava_environment: dict[str, str], tmp_path: Path, dtype: str, copies: int
) -> None:
    """bf16 is what a GPU computes in; float32 files are converted, in each process for itself."""
    from transformers import LlamaForCausalLM

    from moslora_xtuner.training.plan.costs import host_memory_while_loading

    folder = tmp_path / "llm"
    shutil.copytree(llava_environment["LLAMA3_8B"], folder)
    LlamaForCausalLM.from_pretrained(folder, torch_dtype=dtype).save_pretrained(folder)
    plan = make(MOSLORA, env={"LLAMA3_8B": str(folder)}, gpus=4, gpu_memory=80)
    assert plan.llm is not None
    assert plan.visual is not None
    assert host_memory_while_loading(plan) == 2 * (copies * plan.llm.parameters + 4 * plan.visual.parameters)


@pytest.mark.parametrize(("dtype", "mapped"), [("bfloat16", True), ("float32", False)])
def test_transformers_leaves_weights_in_their_files(
    llava_environment: dict[str, str], tmp_path: Path, dtype: str, mapped: bool
) -> None:
    """What the plan counts on: a mapped weight lies inside the file's pages in the process's address space."""
    from transformers import LlamaForCausalLM

    from moslora_xtuner.llm.load import load_llama

    folder = tmp_path / "llm"
    shutil.copytree(llava_environment["LLAMA3_8B"], folder)
    LlamaForCausalLM.from_pretrained(folder, torch_dtype=dtype).save_pretrained(folder)
    model = load_llama(str(folder), torch_dtype="bfloat16")
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(folder) in line]
    spans = [[int(end, 16) for end in line.split()[0].split("-")] for line in lines]
    weights = [weight.data_ptr() for weight in model.parameters()]
    assert all(any(low <= weight < high for low, high in spans) for weight in weights) == mapped


@pytest.mark.parametrize(("gpu_memory", "blocks"), [(80, 0), (0.05, 2)])
def test_the_plan_says_how_many_blocks_are_checkpointed(gpu_memory: float, blocks: int, make: Make) -> None:
    left = make(MOSLORA, gpus=1, gpu_memory=gpu_memory, options=["model.checkpointed_blocks=plan"])
    assert left.checkpointed_blocks == blocks
    assert f"{blocks} of 2 blocks are computed again in backward" in text(left, 200)
    fixed = make(MOSLORA, gpus=1, gpu_memory=gpu_memory, options=["model.checkpointed_blocks=1"])
    assert fixed.checkpointed_blocks is None
    assert make(MOSLORA, processes=1, options=["model.checkpointed_blocks=plan"]).checkpointed_blocks is None
    # Of 6 operations a weight each checkpointed block takes 2: all of them a third, one of two 1 in 5.
    said = "1 of 2 blocks are computed again in backward, 0 would do", "saves 20 % of the language model's operations"
    assert [each in text(fixed, 300) for each in said] == [blocks == 0] * 2
