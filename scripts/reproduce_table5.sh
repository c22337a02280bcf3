#!/usr/bin/env bash
# The six rows of the paper's Table 5: check and prepare the data, plan, train, export, evaluate, report.
#
#   bash scripts/reproduce_table5.sh [options]
#
#   --dry-run            print every command with estimated hours; run nothing, write nothing
#   --gpus N             train on N GPUs of this machine: 1, 2, 4, 8 or 16, the global batch stays 64; 0 is the CPU
#                        (default: 4, as the paper)
#   --rows NAME,...      recipes of Table 5 to train (default: all six)
#   --benchmarks NAME,.. what is asked (default: paper, the nine)
#   --judge NAME[@URL]   one judge of free answers (default: gpt-4-turbo for MathVista and MM-Vet, as in the
#                        paper, else gpt-4o-mini)
#   --gpu-tflops T       what a GPU achieves, for the estimated hours (default: 125, 40 % of an A100)
#   -o DIR               where everything goes (default: runs/table5)
#
# Interrupted, or stopped by an error? The same command goes on. docs/reproduce.md says more.
#   LLAVA_MIX    llava_v1_5_mix665k.json       LLAVA_IMAGES  the folder that its image paths start from
#   LLAMA3_8B    LLaMA-3 8B Instruct           LLAMA3_PROJECTOR, LLAMA3_STORE        its projector and token store
#   INTERNLM2_7B InternLM2-Chat 7B             INTERNLM2_PROJECTOR, INTERNLM2_STORE  its projector and token store
#   CLIP_L_336   CLIP ViT-L/14 at 336 pixels   LMUData       VLMEvalKit's TSV files
#   MOSLORA_DATA_OPTIONS, MOSLORA_TRAIN_OPTIONS, MOSLORA_EVAL_OPTIONS   more options for every check and prepare,
#       for every plan and train, for every eval
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="${MOSLORA_VENV:-$ROOT/.venv}"
MOSLORA="$VENV/bin/moslora" PYTHON="$VENV/bin/python" PARTS="$ROOT/scripts/reproduce/table5"
TITLE="table 5" KIND="table 5" SCRIPT=reproduce_table5.sh
ROWS=(llava_llama3_lora llava_llama3_moslora llava_llama3_moslora_kaiming
    llava_internlm2_qlora llava_internlm2_qmoslora llava_internlm2_qmoslora_kaiming)
GLOBAL_BATCH=64
declare -A MICRO=([llama3]=8 [internlm2]=16) # the recipes' batch_size
declare -A BASELINE=([llama3]=llava_llama3_lora [internlm2]=llava_internlm2_qlora)
# shellcheck source=scripts/reproduce/steps.sh
source "$ROOT/scripts/reproduce/steps.sh"
# shellcheck source=scripts/reproduce/course.sh
source "$ROOT/scripts/reproduce/course.sh"

llm_of() { [[ $1 == llava_llama3_* ]] && echo llama3 || echo internlm2; }

read_arguments() {
    OUT=runs/table5 GPUS=4 JUDGE="" BENCHMARKS=paper TFLOPS=125 DRY="" CHOSEN=("${ROWS[@]}")
    local row
    while (($#)); do
        case $1 in
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 0 ;;
        --dry-run) DRY=yes && shift && continue ;;
        --gpus | --rows | --benchmarks | --judge | --gpu-tflops | -o | --out)
            (($# > 1)) || die 2 "$1 needs a value: see --help" ;;
        *) die 2 "there is no option $1: see --help" ;;
        esac
        case $1 in
        --gpus) GPUS=$2 ;;
        --rows) IFS=, read -ra CHOSEN <<<"$2" ;;
        --benchmarks) BENCHMARKS=$2 ;;
        --judge) JUDGE=$2 ;;
        --gpu-tflops) TFLOPS=$2 ;;
        *) OUT=$2 ;;
        esac
        shift 2
    done
    [[ $GPUS =~ ^(0|1|2|4|8|16)$ ]] || die 2 "--gpus $GPUS: give 1, 2, 4, 8 or 16, or 0 for the CPU"
    for row in "${CHOSEN[@]}"; do
        [[ " ${ROWS[*]} " == *" $row "* ]] || die 2 "--rows: $row is no row of Table 5; the rows are ${ROWS[*]}"
    done
    ((${#CHOSEN[@]})) || die 2 "--rows names nothing: the rows are ${ROWS[*]}"
    [[ $JUDGE != exact_matching ]] || die 2 "--judge exact_matching: MathVista and MM-Vet need a model that judges"
    [[ -x $MOSLORA ]] || die 3 "no environment at $VENV: run 'bash scripts/install.sh', or set MOSLORA_VENV"
    OUT=$(realpath -m -- "$OUT")
}

read_environment() { # the recipes' variables, with the recipes' defaults
    export LLAVA_MIX="${LLAVA_MIX:-data/llava/llava_v1_5_mix665k.json}" LLAVA_IMAGES="${LLAVA_IMAGES:-data/llava/images}"
    export LLAMA3_8B="${LLAMA3_8B:-meta-llama/Meta-Llama-3-8B-Instruct}"
    export LLAMA3_STORE="${LLAMA3_STORE:-data/llava/store_llama3}"
    export LLAMA3_PROJECTOR="${LLAMA3_PROJECTOR:-work_dirs/llava_llama3_pretrain/adapters/projector}"
    export INTERNLM2_7B="${INTERNLM2_7B:-internlm/internlm2-chat-7b}"
    export INTERNLM2_STORE="${INTERNLM2_STORE:-data/llava/store_internlm2}"
    export INTERNLM2_PROJECTOR="${INTERNLM2_PROJECTOR:-work_dirs/llava_internlm2_pretrain/adapters/projector}"
    export CLIP_L_336="${CLIP_L_336:-openai/clip-vit-large-patch14-336}" LMUData="${LMUData:-$HOME/LMUData}"
    declare -gA MODEL=([llama3]=$LLAMA3_8B [internlm2]=$INTERNLM2_7B)
    declare -gA STORE=([llama3]=$LLAMA3_STORE [internlm2]=$INTERNLM2_STORE)
    # Words on purpose: each is one option or its value.
    read -ra DATA_OPTIONS <<<"${MOSLORA_DATA_OPTIONS:-}"
    read -ra TRAIN_OPTIONS <<<"${MOSLORA_TRAIN_OPTIONS:-}"
    read -ra EVAL_OPTIONS <<<"${MOSLORA_EVAL_OPTIONS:-}"
    VARIABLES=(LLAVA_MIX LLAVA_IMAGES LLAMA3_8B LLAMA3_STORE LLAMA3_PROJECTOR INTERNLM2_7B INTERNLM2_STORE
        INTERNLM2_PROJECTOR CLIP_L_336 LMUData)
}

training_words() { # training_words LLM: fills WORDS with the options that plan and train share
    WORDS=(--gpus "$GPUS")
    if ((GPUS == 0)); then WORDS=(--processes 1); fi
    cut_batch "${MICRO[$1]}" "$GLOBAL_BATCH"
    if ((GPUS != 4)); then
        WORDS+=(--cfg-options "train_dataloader.batch_size=$BATCH"
            --cfg-options "optim_wrapper.accumulative_counts=$ACCUMULATION"
            --cfg-options "train_dataloader.sampler.per_device_batch_size=$SHARE")
    fi
    WORDS+=(${TRAIN_OPTIONS[@]+"${TRAIN_OPTIONS[@]}"})
}

walk() { # the whole way, in order; MODE says what happens at each step: look, print or run
    MODE=$1 PENDING=() LEFT=()
    local row llm done="$OUT/done" trained
    AFTER=()
    if [[ -e $LLAVA_MIX ]]; then AFTER=("$LLAVA_MIX"); fi
    step check "$done/check" "$MOSLORA" data check "$LLAVA_MIX" --images "$LLAVA_IMAGES" -o "$OUT/check" \
        ${DATA_OPTIONS[@]+"${DATA_OPTIONS[@]}"}
    for llm in "${LLMS[@]}"; do
        # A store that was there is compared with the data once: prepare does so, and uses it again when it fits.
        AFTER=("$done/check" "${STORE[$llm]}/.moslora.json")
        step "prepare-$llm" "$done/prepare-$llm" "$MOSLORA" data prepare "$LLAVA_MIX" --images "$LLAVA_IMAGES" \
            --model "${MODEL[$llm]}" -o "${STORE[$llm]}" ${DATA_OPTIONS[@]+"${DATA_OPTIONS[@]}"}
    done
    AFTER=()
    for row in "${CHOSEN[@]}"; do # all plans before the first training: what stops the last row is told today
        training_words "$(llm_of "$row")"
        step "plan-$row" "$OUT/train/$row/adapters/training.json" \
            "$MOSLORA" plan "$row" "${WORDS[@]}" --work-dir "$OUT/train/$row"
    done
    for row in "${CHOSEN[@]}"; do
        trained="$OUT/train/$row/adapters/training.json"
        training_words "$(llm_of "$row")"
        AFTER=()
        step "train-$row" "$trained" \
            "$MOSLORA" train "$row" "${WORDS[@]}" --work-dir "$OUT/train/$row" --resume auto --skip-plan
        AFTER=("$trained")
        step "export-$row" "$OUT/models/$row/.moslora.json" \
            "$MOSLORA" export "$OUT/train/$row" -o "$OUT/models/$row" --format hf
        evaluate "$row"
    done
    report
}

evaluate() { # evaluate ROW: by one judge; or by the paper's where it names one, else VLMEvalKit's
    local judges=(--judge gpt-4o-mini --judge MathVista_MINI=gpt-4-turbo --judge MMVet=gpt-4-turbo)
    if [[ -n $JUDGE ]]; then judges=(--judge "$JUDGE"); fi
    AFTER=("$OUT/models/$1/.moslora.json")
    step "eval-$1" "$OUT/done/eval-$1" "$MOSLORA" eval "$OUT/models/$1" --benchmarks "$BENCHMARKS" \
        --data-root "$LMUData" "${judges[@]}" -o "$OUT/eval" ${EVAL_OPTIONS[@]+"${EVAL_OPTIONS[@]}"}
}

report() { # one page over the rows done, also by earlier starts; and one a language model, against its LoRA row
    local row llm stamp rows=() mine against
    AFTER=()
    for row in "${ROWS[@]}"; do
        stamp="$OUT/done/eval-$row"
        [[ " ${CHOSEN[*]} " == *" $row "* || -e $stamp ]] || continue
        rows+=("$row")
        AFTER+=("$stamp")
    done
    step report "$OUT/done/report" "$MOSLORA" report "${rows[@]/#/$OUT/eval/}" -o "$OUT/report"
    for llm in "${LLMS[@]}"; do
        mine=() against=()
        for row in "${rows[@]}"; do
            if [[ $(llm_of "$row") == "$llm" ]]; then mine+=("$OUT/eval/$row"); fi
            if [[ $row == "${BASELINE[$llm]}" ]]; then against=(--baseline "$row"); fi
        done
        step "report-$llm" "$OUT/done/report-$llm" "$MOSLORA" report "${mine[@]}" \
            ${against[@]+"${against[@]}"} -o "$OUT/report/$llm"
    done
}

require_all() { # what the steps left need, looked at before the first of them: one list
    part needs.py --gpus "$GPUS" --judge "$JUDGE" --benchmarks "$BENCHMARKS" "${LEFT[@]}"
}

estimate() { # hours of each step, and whose figure
    part hours.py --gpus "$GPUS" --gpu-tflops "$TFLOPS" --rows "${CHOSEN[@]}" \
        -- ${TRAIN_OPTIONS[@]+"${TRAIN_OPTIONS[@]}"}
}

shared_settings() { # what all rows share
    local name
    SETTINGS=("gpus=$GPUS" "MOSLORA_TRAIN_OPTIONS=${MOSLORA_TRAIN_OPTIONS:-}")
    for name in "${VARIABLES[@]}"; do
        if [[ $name != LMUData ]]; then SETTINGS+=("$name=${!name}"); fi
    done
    PATHS=LLAVA_MIX,LLAVA_IMAGES,LLAMA3_STORE,LLAMA3_PROJECTOR,INTERNLM2_STORE,INTERNLM2_PROJECTOR
    HUB=LLAMA3_8B,INTERNLM2_7B,CLIP_L_336
}

main() { # read whole before it begins: the file may change under a run of days
    read_arguments "$@"
    read_environment
    mapfile -t LLMS < <(for row in "${CHOSEN[@]}"; do llm_of "$row"; done | awk '!seen[$0]++')
    shared_settings
    TRAININGS=("${ROWS[@]}") PAGE="$OUT/report/report.html"
    go
}

main "$@"; exit
