#!/usr/bin/env bash
# Check and measure on a GPU, the most valuable part first; each in a process of its own, with a limit and a JSON.
#
#   bash scripts/gpu/check.sh OUT [--minutes 8] [--shape llama3-8b] [--cpu] [--only PART ...] [--variants NAME ...]
#
# Parts, in their order:
#   adapter        bf16, fp16, fp32, NF4, 8-bit against the formula in float64
#   ceiling        a matrix product and a copy
#   bench          a training step of the real shape: stock XTuner and PEFT, our LoRA, our MoSLoRA
#   memory         what `moslora plan` foresees against the measured peak, bf16
#   train          a digits recipe through `xtuner train`, ZeRO-2, bf16: the loss falls, it exports, it answers
#   nf4            bench for InternLM2 7B in 4 bits with rank 512
#   eval           answering with a model of the real width and half the depth, 576 places a picture
#   memory-nf4     memory for NF4
# A part that is cut off or fails does not stop the others; the exit status says whether all went well. --cpu runs
# all of it on tiny shapes, to see that it works before a GPU is at hand.
# Where this package is not installed, that of .gpu-kit/ (pack.sh) and all it needs are, into a folder of their own.
set -uo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)"
PYTHON="${MOSLORA_PYTHON:-python3}"
minutes=8 shape=llama3-8b cpu=0 only=() variants=()

die() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

(($#)) && [[ $1 != -* ]] || die "name the folder for the results: bash scripts/gpu/check.sh OUT"
mkdir -p "$1" && OUT="$(cd "$1" && pwd -P)" || die "cannot make $1"
shift
while (($#)); do
    case $1 in
        --minutes) minutes="${2:?}" && shift 2 ;;
        --shape) shape="${2:?}" && shift 2 ;;
        --cpu) cpu=1 && shift ;;
        --only)
            shift
            while (($#)) && [[ $1 != -* ]]; do only+=("$1") && shift; done
            ;;
        --variants) # of bench, see scripts/bench/training/variants.py
            shift
            while (($#)) && [[ $1 != -* ]]; do variants+=("$1") && shift; done
            ;;
        *) die "$1 is unknown: see the head of this file" ;;
    esac
done

began=$SECONDS
export PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false PYTHONWARNINGS=ignore
if ((cpu)); then export CUDA_VISIBLE_DEVICES=""; fi
if ! (cd / && "$PYTHON" -c 'import moslora_xtuner.eval' 2>/dev/null); then
    compgen -G "$ROOT/.gpu-kit/*.whl" >/dev/null ||
        die "moslora_xtuner is not installed for $PYTHON and there is no .gpu-kit: make it with scripts/gpu/pack.sh"
    site="$(mktemp -d)"
    "$PYTHON" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" \
        "$ROOT"/.gpu-kit/*.whl || die "the kit cannot be installed: make it again with scripts/gpu/pack.sh"
    export PYTHONPATH="$site" PATH="$site/bin:$PATH"
    printf 'check: kit installed after %d s\n' $((SECONDS - began))
fi
place="${TMPDIR:-/tmp}"
if ((cpu == 0)) && [[ -w /dev/shm ]]; then place=/dev/shm; fi # a model of the real size is written and read
work="$(mktemp -d "$place/gpu-check.XXXXXX")"
trap 'rm -rf "$work" ${site:+"$site"}' EXIT

failed=()
part() { # part NAME SECONDS SCRIPT ARGUMENTS...: within what is left of the whole
    local name="$1" limit="$2" left status=0 start=$SECONDS
    shift 2
    if ((${#only[@]})) && [[ " ${only[*]} " != *" $name "* ]]; then return; fi
    left=$((minutes * 60 - (SECONDS - began)))
    if ((left < 15)); then
        printf 'check: %s left out: no time left\n' "$name"
        failed+=("$name")
        return
    fi
    printf '\ncheck: == %s (at most %d s)\n' "$name" $((limit < left ? limit : left))
    timeout --kill-after=5 $((limit < left ? limit : left)) "$PYTHON" "$ROOT/scripts/$1" "${@:2}" 2>&1 |
        grep --line-buffered -vE '\[(INFO|WARNING)\]|^ +["}]|^\}$|^	 self\.|^\*+$|UserWarning|FutureWarning|deprecated|^  (warnings\.|return )'
    status=${PIPESTATUS[0]}
    printf 'check: %s ended with status %d after %d s\n' "$name" "$status" $((SECONDS - start))
    ((status == 0)) || failed+=("$name")
}

scaled() { echo $((cpu ? 1200 : $1)); } # limits are a GPU's
small=()
if ((cpu)); then
    small=(--cpu) shape=tiny minutes=$((minutes < 40 ? 40 : minutes))
fi
nf4_shape=$( ((cpu)) && echo tiny-internlm2 || echo internlm2-7b)
nf4=() few=() tokens=2048
if ((cpu)); then
    nf4=(--rows 1 --tokens 80 --variants stock_lora moslora_fast) few=(--rows 1) tokens=160
fi
bench=(--repeats 5) eval=(--layers 16) chosen=()
if ((cpu)); then
    bench=(--repeats 1 --rows 2) eval=(--layers 1)
fi
if ((cpu == 0 && ${#variants[@]} == 0)); then
    variants=(stock_lora lora moslora moslora_head lora_fast moslora_fast lora_fast_kept moslora_fast_kept)
fi
if ((${#variants[@]})); then chosen=(--variants "${variants[@]}"); fi

part adapter "$(scaled 60)" gpu/adapter.py "$OUT/adapter.json" "${small[@]}"
part ceiling "$(scaled 30)" gpu/ceiling.py "$OUT/ceiling.json" "${small[@]}"
part bench "$(scaled 200)" bench_train.py --shape "$shape" "${bench[@]}" "${chosen[@]}" \
    --out "$OUT/bench.json"
part memory "$(scaled 80)" gpu/memory.py "$OUT/memory.json" --shape "$shape" --tokens "$tokens"
part train "$(scaled 180)" gpu/train.py "$OUT/train.json" --work "$work/train" "${small[@]}"
part nf4 "$(scaled 150)" bench_train.py --shape "$nf4_shape" "${bench[@]}" "${nf4[@]}" --out "$OUT/nf4.json"
part eval "$(scaled 130)" bench_eval.py --work "$work/eval" --shape "$shape" "${eval[@]}" --questions 16 --repeats 1 \
    --out "$OUT/eval.json"
part memory-nf4 "$(scaled 100)" gpu/memory.py "$OUT/memory-nf4.json" --shape "$nf4_shape" \
    --tokens "$tokens" "${few[@]}"
printf '\ncheck: %d s in all; %s\n' $((SECONDS - began)) "${failed[*]:+NOT well: ${failed[*]}}"
((${#failed[@]} == 0))
