# shellcheck shell=bash
# Sourced by the scripts that run something in an environment of its own: ROOT, VENV, CACHE, die, environment.
#
# Environments are kept under the user's cache.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="${MOSLORA_VENV:-$ROOT/.venv}"
[[ $VENV == /* ]] || VENV="$PWD/$VENV"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/moslora-xtuner"
{ mkdir -p "$CACHE" 2>/dev/null && [[ -w $CACHE ]]; } || CACHE="$ROOT/build"

die() {
    printf 'error: %s\n' "$*" >&2
    exit 3
}

[[ -x $VENV/bin/uv ]] || die "no environment at $VENV: run 'bash scripts/install.sh' first"

# environment NAME yes|no PINS PACKAGE...: makes it where it is missing, of other words, or (yes) to be the newest
environment() {
    local place="$CACHE/$1" newest="$2" pins="$3"
    shift 3
    local made_of="$* $pins"
    if [[ $newest == yes || ! -f $place/.set || $(<"$place/.set") != "$made_of" ]]; then
        rm -f "$place/.set"
        "$VENV/bin/uv" venv --quiet --allow-existing --python "$VENV/bin/python" "$place"
        printf '%s\n' "$pins" >"$place/pins.txt"
        "$VENV/bin/uv" pip install --quiet --compile-bytecode --upgrade --python "$place/bin/python" -c "$place/pins.txt" "$@"
        printf '%s' "$made_of" >"$place/.set"
    fi
}
