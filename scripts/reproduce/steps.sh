# Steps that are skipped when their result is there, printed, or run with a log: read by reproduce_table4.sh and
# reproduce_table5.sh.
#
# Given: OUT, and TITLE, with which lines begin. A step's result is a file that the tool leaves when all is complete, or else a stamp in OUT/done, which
# holds the command, so that another command is another step.
# shellcheck shell=bash

STEP="" CHILD="" TEE=""
AFTER=()            # the files that the next step is made from
declare -A PENDING=() # results that this walk has found to be missing or old

say() { printf '%s: %s\n' "$TITLE" "$*"; }

die() { # die STATUS TEXT
    printf 'error: %s\n' "$2" >&2
    exit "$1"
}

shown() { # a command as one can paste it
    local word line=""
    for word in "$@"; do
        if [[ ! $word =~ ^[-[:alnum:]_./,:=@+%]+$ ]]; then printf -v word '%q' "$word"; fi
        line+=" $word"
    done
    printf '%s' "${line# }"
}

complete() { # complete RESULT COMMAND...: is it there, of this command, and not older than what it is made from?
    local result=$1 source
    shift
    [[ -e $result ]] || return 1
    if [[ $result == "$OUT/done/"* && $(<"$result") != "$(shown "$@")" ]]; then return 1; fi
    for source in ${AFTER[@]+"${AFTER[@]}"}; do
        if [[ ! -e $source || -n ${PENDING[$source]:-} || $source -nt $result ]]; then return 1; fi
    done
}

step() { # step NAME RESULT COMMAND...: look at it, print it or run it, as MODE says
    local name=$1 result=$2 done=""
    shift 2
    if complete "$result" "$@"; then
        done=yes
    elif [[ $MODE != run ]]; then
        PENDING[$result]=$name
        LEFT+=("$name")
    fi
    case $MODE${done:+-done} in
    print) price "$name" "$(shown "$@")" ;;
    print-done) printf '%s  # done\n' "$(shown "$@")" ;;
    run-done) say "$name: done" ;;
    run)
        run "$name" "$@"
        if [[ $result == "$OUT/done/"* ]]; then
            shown "$@" >"$result.new"
            mv "$result.new" "$result"
        fi
        ;;
    esac
}

run() { # run NAME COMMAND...: shown, and kept in the step's log
    local log="$OUT/logs/$1.log" status=0 shows
    STEP=$1
    shift
    say "$STEP: $(shown "$@")"
    printf '\n$ %s\n' "$(shown "$@")" >>"$log"
    # A closed terminal reaches all processes of this script at once: only the script itself is to act on it.
    exec {shows}> >(trap '' HUP && exec tee -ai "$log")
    TEE=$!
    # In the background: bash hears a signal at once only while it waits.
    (trap '' HUP && exec "$@") >&"$shows" 2>&1 {shows}>&- &
    CHILD=$!
    exec {shows}>&-
    wait "$CHILD" || status=$?
    CHILD=""
    wait "$TEE" || true
    if ((status)); then failed "$status" "failed (status $status)"; fi
}

failed() { # failed STATUS WHAT: the last line says which step, and what to do
    printf 'error: step %s %s: see the lines above or %s. The same command goes on from there\n' \
        "$STEP" "$2" "$OUT/logs/$STEP.log" >&2
    exit "$1"
}

stopped() { # stopped STATUS: a signal ends the step, which ends its own processes, and then this script
    trap '' INT TERM HUP
    if [[ -n $CHILD ]]; then
        kill -TERM "$CHILD" 2>/dev/null || true
        wait "$CHILD" || true
        wait "$TEE" || true
        failed "$1" "was interrupted"
    fi
    exit "$1"
}
