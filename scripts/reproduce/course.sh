# The course of a reproduction, read behind steps.sh: what is missing is told, the whole way printed or gone.
#
# Given by the script that reads this:
#   ROOT, PARTS, PYTHON, OUT, DRY   the tree, the room of its parts, the environment's Python, the folder, --dry-run
#   TITLE, KIND, SCRIPT, PAGE       what lines begin with, what the folder is, the script's name, what to look at last
#   VARIABLES                       the environment's names that all commands read
#   SETTINGS                        NAME=VALUE of what all starts in one folder share
#   PATHS, HUB                      with commas: those of them that are paths, or are where there is such a folder
#   TRAININGS                       the names of the trainings in OUT/train that nobody else may be writing
#   GPUS                            processes that train, 0 on the CPU
#   walk MODE                       the steps in order
#   require_all, estimate           what the steps LEFT need; a line for each step or kind: hours, whose figure
# shellcheck shell=bash

part() { # part FILE ARGUMENTS...: one of the parts in Python, which import each other
    PYTHONPATH="$ROOT/scripts${PYTHONPATH:+:$PYTHONPATH}" "$PYTHON" "$PARTS/$1" "${@:2}"
}

cut_batch() { # cut_batch MICRO GLOBAL: SHARE, BATCH and ACCUMULATION of a GPU, so that all GPUs together have the global batch
    SHARE=$(($2 / (GPUS > 0 ? GPUS : 1))) BATCH=$1
    if ((BATCH > SHARE)); then BATCH=$SHARE; fi
    ACCUMULATION=$((SHARE / BATCH))
}

price() { # price STEP COMMAND: the command as it would be run, with its estimated hours
    local kind=${1%%-*} hours how
    hours=${HOURS[$1]:-${HOURS[$kind]}} how=${HOW[$1]:-${HOW[$kind]}}
    printf '%s  # estimated %s h (%s)\n' "$2" "$hours" "$how"
    TOTAL=$(awk -v a="$TOTAL" -v b="$hours" 'BEGIN { printf "%.6f", a + b }')
}

print_all() { # a script of its own: exports, then a command a line
    local table name hours how
    declare -gA HOURS=() HOW=()
    table=$(estimate)
    while IFS=$'\t' read -r name hours how; do HOURS[$name]=$hours HOW[$name]=$how; done <<<"$table"
    TOTAL=0
    for name in "${VARIABLES[@]}"; do printf 'export %s=%q\n' "$name" "${!name}"; done
    walk print
    awk -v t="$TOTAL" -v n="${#LEFT[@]}" 'BEGIN { printf "# estimated %.3g h in all, %d steps; nothing was run\n", t, n }'
    if ((${#LEFT[@]})); then require_all || true; fi
}

claim() { # the folder is ours, and was begun with the settings that all rows share
    "$PYTHON" "$ROOT/scripts/reproduce/begin.py" --paths "$PATHS" --hub "$HUB" -- "$OUT" "$KIND" "${SETTINGS[@]}"
}

lock() { # nobody else works in the folder
    local name left
    exec 9>>"$OUT/.lock"
    flock -n 9 || die 4 "another $SCRIPT works in $OUT: wait for it, or give another folder with -o"
    for name in "${TRAININGS[@]}"; do
        # A launch that was killed outright leaves its training alone, and two must not write one folder.
        # Option and pattern are one word: grep itself runs with it, and must not find itself.
        # shellcheck disable=SC2062
        left=$(grep -lzx "-Fe$OUT/train/$name" /proc/[0-9]*/cmdline 2>/dev/null | grep -o '[0-9]\+' | xargs || true)
        [[ -z $left ]] || die 4 "a training of $name that was left behind still runs: wait for it, or 'kill $left'"
    done
}

go() { # printed, or done as far as it is not
    if [[ -e $OUT/.moslora.json ]]; then claim; fi
    if [[ -n $DRY ]]; then
        print_all
        exit
    fi
    walk look
    if ((${#LEFT[@]} == 0)); then
        say "nothing to do, all steps are done: $PAGE"
        exit
    fi
    require_all
    claim
    mkdir -p "$OUT/done" "$OUT/logs"
    lock
    trap 'stopped 130' INT
    trap 'stopped 143' TERM
    trap 'stopped 129' HUP
    walk run
    say "done: $PAGE"
}
