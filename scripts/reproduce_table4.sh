#!/usr/bin/env bash
# The paper's section 4.1, commonsense reasoning: Tables 1, 3 and 4 and figure 4, from data to report.
#
#   bash scripts/reproduce_table4.sh [options]
#
#   --dry-run            print every command with estimated hours; run nothing, write nothing
#   --table N,...        1 (LoRA and two-subspaces mixing), 3 (how the mixer starts), 4 (methods); default: 4
#   --figure 4           LoRA and MoSLoRA on parts of the questions; with --table or alone
#   --methods NAME,...   only these recipes, with or without commonsense_ (default: all of what is chosen);
#                        frozen_mixer, a control that the paper lacks, joins Table 4 when it is named
#   --seeds N,...        a training of each method for each seed (default: 42)
#   --parts P,...        figure 4's parts, per cent of the questions (default: 12.5,25,50,75; 100 is always there)
#   --greedy             ask without beams, at about a quarter of the cost
#   --small-worlds       made-up questions instead of LLM-Adapters', asked without beams: no download, and nothing to
#                        compare with the paper
#   --gpus N             train on N GPUs of this machine: 1, 2, 4, 8 or 16, the global batch stays 16; 0 is the CPU
#                        (default: 1, as the paper)
#   --gpu-tflops T       what a GPU achieves, for the estimated hours (default: 125, 40 % of an A100)
#   -o DIR               where everything goes (default: runs/commonsense)
#
# All tables and the figure share one folder: what one has trained, another does not train again. Interrupted, stopped
# by an error, or more seeds wanted? The same command goes on. docs/commonsense.md says more.
#   COMMONSENSE_LLM    LLaMA-3 8B Instruct       LLM_ADAPTERS  a clone of LLM-Adapters
#   COMMONSENSE_DATA   what `moslora data commonsense` makes, or has made, of it      COMMONSENSE_STORE  its token store
#   COMMONSENSE_VALIDATION  records, or their store, whose lowest loss says which adapter is kept, or none for the last
#                      (default: the 120 of COMMONSENSE_DATA/validation.json, as the authors; none with --small-worlds)
#   MOSLORA_DATA_OPTIONS, MOSLORA_PREPARE_OPTIONS, MOSLORA_TRAIN_OPTIONS, MOSLORA_EVAL_OPTIONS   more options for
#       making the data, for every prepare, for every plan and train, for every eval
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="${MOSLORA_VENV:-$ROOT/.venv}"
MOSLORA="$VENV/bin/moslora" PYTHON="$VENV/bin/python" PARTS="$ROOT/scripts/reproduce/table4"
TITLE="commonsense" KIND="commonsense tables" SCRIPT=reproduce_table4.sh
GLOBAL_BATCH=16 MICRO=4 # the recipes' batch_size
# shellcheck source=scripts/reproduce/steps.sh
source "$ROOT/scripts/reproduce/steps.sh"
# shellcheck source=scripts/reproduce/course.sh
source "$ROOT/scripts/reproduce/course.sh"

read_arguments() {
    OUT=runs/commonsense GPUS=1 TABLES="" FIGURE="" METHODS="" SEEDS=42 PER_CENT="" TFLOPS=125 DRY=""
    BENCHMARKS=commonsense SMALL="" GREEDY=""
    while (($#)); do
        case $1 in
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" && exit 0 ;;
        --dry-run) DRY=yes && shift && continue ;;
        --greedy) GREEDY=yes && shift && continue ;;
        --small-worlds) SMALL=yes && shift && continue ;;
        --table | --tables | --figure | --methods | --seeds | --parts | --gpus | --gpu-tflops | -o | --out)
            (($# > 1)) || die 2 "$1 needs a value: see --help" ;;
        *) die 2 "there is no option $1: see --help" ;;
        esac
        case $1 in
        --table | --tables) TABLES=$2 ;;
        --figure) FIGURE=$2 ;;
        --methods) METHODS=$2 ;;
        --seeds) SEEDS=$2 ;;
        --parts) PER_CENT=$2 ;;
        --gpus) GPUS=$2 ;;
        --gpu-tflops) TFLOPS=$2 ;;
        *) OUT=$2 ;;
        esac
        shift 2
    done
    [[ $GPUS =~ ^(0|1|2|4|8|16)$ ]] || die 2 "--gpus $GPUS: give 1, 2, 4, 8 or 16, or 0 for the CPU"
    [[ -x $MOSLORA ]] || die 3 "no environment at $VENV: run 'bash scripts/install.sh', or set MOSLORA_VENV"
    [[ -z $PER_CENT || -n $FIGURE ]] || die 2 "--parts is of --figure 4, which is not chosen"
    if [[ -z $TABLES$FIGURE ]]; then TABLES=4; fi
    if [[ -n $GREEDY ]]; then BENCHMARKS=commonsense-greedy; fi
    if [[ -n $SMALL ]]; then BENCHMARKS=small-worlds; fi
    OUT=$(realpath -m -- "$OUT")
}

read_environment() { # the recipes' variables, with the recipes' defaults
    local data=data/commonsense questions=LLM-Adapters
    if [[ -n $SMALL ]]; then data=data/small-worlds questions="small worlds"; fi
    export COMMONSENSE_LLM="${COMMONSENSE_LLM:-meta-llama/Meta-Llama-3-8B-Instruct}"
    export LLM_ADAPTERS="${LLM_ADAPTERS:-LLM-Adapters}"
    export COMMONSENSE_DATA="${COMMONSENSE_DATA:-$data}"
    export COMMONSENSE_STORE="${COMMONSENSE_STORE:-$COMMONSENSE_DATA/store}"
    local held_out="$COMMONSENSE_DATA/validation.json"
    if [[ -n $SMALL ]]; then held_out=none; fi
    export COMMONSENSE_VALIDATION="${COMMONSENSE_VALIDATION:-$held_out}"
    # Words on purpose: each is one option or its value.
    read -ra DATA_OPTIONS <<<"${MOSLORA_DATA_OPTIONS:-}"
    read -ra PREPARE_OPTIONS <<<"${MOSLORA_PREPARE_OPTIONS:-}"
    read -ra TRAIN_OPTIONS <<<"${MOSLORA_TRAIN_OPTIONS:-}"
    read -ra EVAL_OPTIONS <<<"${MOSLORA_EVAL_OPTIONS:-}"
    VARIABLES=(COMMONSENSE_LLM LLM_ADAPTERS COMMONSENSE_DATA COMMONSENSE_STORE COMMONSENSE_VALIDATION)
    SETTINGS=("gpus=$GPUS" "questions=$questions" "MOSLORA_DATA_OPTIONS=${MOSLORA_DATA_OPTIONS:-}"
        "MOSLORA_PREPARE_OPTIONS=${MOSLORA_PREPARE_OPTIONS:-}" "MOSLORA_TRAIN_OPTIONS=${MOSLORA_TRAIN_OPTIONS:-}"
        "COMMONSENSE_LLM=$COMMONSENSE_LLM" "COMMONSENSE_DATA=$COMMONSENSE_DATA" "COMMONSENSE_STORE=$COMMONSENSE_STORE"
        "COMMONSENSE_VALIDATION=$COMMONSENSE_VALIDATION")
    PATHS=COMMONSENSE_DATA,COMMONSENSE_STORE HUB=COMMONSENSE_LLM
    if [[ $COMMONSENSE_VALIDATION != none ]]; then PATHS+=,COMMONSENSE_VALIDATION; fi
}

read_runs() { # what is to be trained, and of what each report is made: the part runs.py knows
    local kind key recipe per_cent seed name stamp before=() lines
    for stamp in "$OUT/done/eval-"*; do
        stamp=${stamp##*/eval-}
        if [[ $BENCHMARKS != *-greedy && $stamp != *-greedy ]]; then before+=("$stamp"); fi
        if [[ $BENCHMARKS == *-greedy && $stamp == *-greedy ]]; then before+=("${stamp%-greedy}"); fi
    done
    lines=$(part runs.py --tables "$TABLES" --figure "$FIGURE" --methods "$METHODS" --seeds "$SEEDS" \
        ${PER_CENT:+--parts "$PER_CENT"} --evaluated ${before[@]+"${before[@]}"}) || exit 2
    KEYS=() REPORTS=()
    declare -gA RECIPE=() PER_CENT_OF=() SEED=() NAME=()
    while IFS=$'\t' read -r kind key recipe per_cent seed name; do
        [[ $kind == run ]] || continue
        KEYS+=("$key")
        RECIPE[$key]=$recipe PER_CENT_OF[$key]=$per_cent SEED[$key]=$seed NAME[$key]=$name
    done <<<"$lines"
    mapfile -t REPORTS < <(grep '^report' <<<"$lines")
    TRAININGS=("${KEYS[@]}")
}

part_of() { # part_of KEY: what the files and steps of its part are called, nothing for the whole
    if [[ ${PER_CENT_OF[$1]} != 100 ]]; then echo "part-${PER_CENT_OF[$1]}-seed-${SEED[$1]}"; fi
}

training_words() { # training_words KEY: fills WORDS with the options that plan and train share
    local part
    part=$(part_of "$1")
    WORDS=(--gpus "$GPUS")
    if ((GPUS == 0)); then WORDS=(--processes 1); fi
    cut_batch "$MICRO" "$GLOBAL_BATCH"
    if ((GPUS > 1)); then
        WORDS+=(--cfg-options "train_dataloader.batch_size=$BATCH"
            --cfg-options "optim_wrapper.accumulative_counts=$ACCUMULATION")
    fi
    if [[ -n $part ]]; then WORDS+=(--cfg-options "train_dataloader.dataset.store=$OUT/parts/$part/store"); fi
    WORDS+=(--cfg-options "randomness.seed=${SEED[$1]}" ${TRAIN_OPTIONS[@]+"${TRAIN_OPTIONS[@]}"})
}

prepare() { # prepare STEP JSON STORE AFTER: a token store
    AFTER=("$4" "$3/.moslora.json")
    step "$1" "$OUT/done/$1" "$MOSLORA" data prepare "$2" --model "$COMMONSENSE_LLM" --template alpaca -o "$3" \
        ${PREPARE_OPTIONS[@]+"${PREPARE_OPTIONS[@]}"}
}

data() { # the questions, their store, and a store of each part
    local make=(commonsense "$LLM_ADAPTERS") train="$COMMONSENSE_DATA/train.json" key part seen=""
    if [[ -n $SMALL ]]; then make=(small-worlds); fi
    AFTER=()
    step data "$train" "$MOSLORA" data "${make[@]}" -o "$COMMONSENSE_DATA" ${DATA_OPTIONS[@]+"${DATA_OPTIONS[@]}"}
    for key in "${KEYS[@]}"; do
        part=$(part_of "$key")
        if [[ " $seen " == *" ${part:-whole} "* ]]; then continue; fi
        seen+=" ${part:-whole}"
        if [[ -z $part ]]; then
            prepare prepare "$train" "$COMMONSENSE_STORE" "$train"
            continue
        fi
        AFTER=("$train")
        step "$part" "$OUT/done/$part" "$PYTHON" "$ROOT/scripts/commonsense_part.py" "$train" \
            --per-cent "${PER_CENT_OF[$key]}" --seed "${SEED[$key]}" -o "$OUT/parts/$part"
        prepare "prepare-$part" "$OUT/parts/$part/$part.json" "$OUT/parts/$part/store" "$OUT/done/$part"
    done
}

walk() { # the whole way, in order; MODE says what happens at each step: look, print or run
    MODE=$1 PENDING=() LEFT=()
    local key trained seen=""
    data
    AFTER=()
    for key in "${KEYS[@]}"; do # all plans before the first training: what stops the last one is told today
        if [[ " $seen " == *" ${key%-seed-*} "* ]]; then continue; fi # another seed costs the same
        seen+=" ${key%-seed-*}"
        training_words "$key"
        step "plan-$key" "$OUT/train/$key/adapters/training.json" \
            "$MOSLORA" plan "commonsense_${RECIPE[$key]}" "${WORDS[@]}" --work-dir "$OUT/train/$key"
    done
    for key in "${KEYS[@]}"; do
        trained="$OUT/train/$key/adapters/training.json"
        training_words "$key"
        AFTER=()
        step "train-$key" "$trained" "$MOSLORA" train "commonsense_${RECIPE[$key]}" "${WORDS[@]}" \
            --work-dir "$OUT/train/$key" --resume auto --skip-plan
        AFTER=("$trained")
        step "eval-$key$AS" "$OUT/done/eval-$key$AS" "$MOSLORA" eval "$OUT/train/$key" --benchmarks "$BENCHMARKS" \
            --data-root "$COMMONSENSE_DATA/LMUData" --name "${NAME[$key]}" -o "$OUT/eval" \
            ${EVAL_OPTIONS[@]+"${EVAL_OPTIONS[@]}"}
    done
    report
}

report() { # for each table and the figure a page of `moslora report`, and the paper's figures beside
    local line words what base run runs against paper=()
    if [[ $BENCHMARKS == commonsense ]]; then paper=(--paper); fi
    for line in "${REPORTS[@]}"; do
        IFS=$'\t' read -ra words <<<"$line"
        what=${words[1]} base=${words[2]} runs=() against=() AFTER=()
        for run in "${words[@]:3}"; do
            runs+=("$OUT/eval/${run#*=}")
            AFTER+=("$OUT/done/eval-${run%%=*}$AS")
        done
        if [[ $base != - ]]; then against=(--baseline "$base"); fi
        step "report-$what$AS" "$OUT/done/report-$what$AS" "$MOSLORA" report "${runs[@]}" --group "$BENCHMARKS" \
            ${against[@]+"${against[@]}"} ${paper[@]+"${paper[@]}"} -o "$OUT/report$AS/$what"
        step "$what$AS" "$OUT/done/$what$AS" "$PYTHON" "$ROOT/scripts/commonsense_tables.py" "--${what%-*}" "${what#*-}" \
            "${runs[@]}" --benchmarks "$BENCHMARKS" --trainings "$OUT/train" -o "$OUT/report$AS"
    done
}

require_all() { # what the steps left need, looked at before the first of them: one list
    part needs.py --gpus "$GPUS" --out "$OUT" --benchmarks "$BENCHMARKS" --steps "${LEFT[@]}" \
        -- ${TRAIN_OPTIONS[@]+"${TRAIN_OPTIONS[@]}"}
}

estimate() { # hours of each step, and whose figure
    part hours.py --gpus "$GPUS" --gpu-tflops "$TFLOPS" --benchmarks "$BENCHMARKS" --runs "${KEYS[@]}" \
        -- ${TRAIN_OPTIONS[@]+"${TRAIN_OPTIONS[@]}"}
}

main() { # read whole before it begins: the file may change under a run of days
    read_arguments "$@"
    read_environment
    AS=""
    if [[ $BENCHMARKS == commonsense-greedy ]]; then AS=-greedy; fi
    PAGE="$OUT/report$AS"
    read_runs
    go
}

main "$@"; exit
