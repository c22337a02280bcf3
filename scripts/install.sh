#!/usr/bin/env bash
# Make the environment: .venv in this repository (or $MOSLORA_VENV), from PyPI, with the project's pins.
#
#   bash scripts/install.sh
#
# Interrupted? Start it again: it goes on where it stopped. Everything there already? It ends at once.
#   MOSLORA_VENV=DIR      put the environment there
#   MOSLORA_PYTHON=PATH   use this Python (3.10, 3.11 or 3.12)
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="${MOSLORA_VENV:-$ROOT/.venv}"
[[ $VENV == /* ]] || VENV="$PWD/$VENV"
STAMP="$VENV/.moslora-stamp"
LOCK="$VENV/.moslora-lock"
BEGUN="$VENV/.moslora-begun" # there while packages are written; found at a start, the last one was killed
NEED_GB=7
VERSION_PY='import sys; print("%d.%d.%d" % sys.version_info[:3]); sys.exit(not (3, 10) <= sys.version_info < (3, 13))'

say() { printf 'install: %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 3
}

pins_hash() { # what the environment is made from: the pins, the package's metadata, this clone, the Python
    {
        cat "$ROOT/constraints.txt" "$ROOT/requirements-nodeps.txt" "$ROOT/setup.py"
        printf '%s\n%s\n' "$ROOT" "$1"
    } | sha256sum | cut -d' ' -f1
}

find_python() { # prints a Python of a fitting version, or names what there is
    local found="" candidate version
    for candidate in ${MOSLORA_PYTHON:-python3.11 python3.12 python3.10 python3}; do
        if version=$("$candidate" -c "$VERSION_PY" 2>/dev/null); then
            printf '%s\n' "$candidate"
            return
        fi
        [[ -n $version ]] && found="${found:+$found, }$candidate is $version"
    done
    die "no Python 3.10, 3.11 or 3.12 (${found:-none found}): install python3.11, or name one with MOSLORA_PYTHON=/path/to/python3.11"
}

check_place() { # an environment of ours, or nothing yet; writable; room enough
    if [[ -e $VENV && ! -d $VENV ]]; then die "$VENV is not a folder: remove it or set MOSLORA_VENV to another place"; fi
    if [[ -d $VENV && ! -e $VENV/pyvenv.cfg && ! -e $LOCK && -n $(ls -A "$VENV") ]]; then
        die "$VENV exists and is not a Python environment: move it away or set MOSLORA_VENV to another place"
    fi
    local above="$VENV" free
    while [[ ! -e $above ]]; do above="$(dirname "$above")"; done
    if ! compgen -G "$VENV/lib/python3*/site-packages/torch" >/dev/null; then
        free=$(df -Pk "$above" | awk 'NR == 2 { print int($4 / 1048576) }')
        ((free >= NEED_GB)) || die "only ${free} GB free at $above, $NEED_GB GB needed: make room or set MOSLORA_VENV to another disk"
    fi
    # The lock also marks a half-made environment as ours, so that the next start may go on.
    { mkdir -p "$VENV" && : >>"$LOCK"; } 2>/dev/null ||
        die "cannot write to $VENV: mend its permissions or set MOSLORA_VENV to a place that you can write to"
}

make_venv() { # with $1, a fitting Python, unless there is one that works
    local python="$1"
    if [[ -x $VENV/bin/python ]] && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        "$VENV/bin/python" -c "$VERSION_PY" >/dev/null ||
            die "$VENV has Python $("$VENV/bin/python" -c "$VERSION_PY" || true), not 3.10 to 3.12: remove it and start again"
        return
    fi
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        die "$python cannot make environments: install its venv module (Debian, Ubuntu: apt-get install python3-venv)"
    say "making $VENV with $("$python" -V)"
    "$python" -m venv "$VENV" || die "$python could not make $VENV: see the lines above; remove $VENV and start again"
}

install_packages() { # with uv (quick), else with pip; the lists are complete, so nothing is resolved
    local python="$VENV/bin/python" lists=(-r "$ROOT/constraints.txt" -r "$ROOT/requirements-nodeps.txt")
    local uv_pin uv=("$VENV/bin/uv" pip install --python "$python" --no-deps)
    uv+=(--compile-bytecode) # as pip does: else the first start of every program is 20 s slower
    # A killed install leaves packages that look complete and are not: then all are written again.
    if [[ -e $BEGUN ]]; then uv+=(--reinstall); fi
    : >"$BEGUN"
    uv_pin=$(grep -oE '^uv==[^ ;]+' "$ROOT/constraints.txt")
    export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-180}" UV_PYTHON_DOWNLOADS=never PIP_DISABLE_PIP_VERSION_CHECK=1
    [[ -t 2 ]] || uv+=(--quiet) # bars for a person, no list of 170 names for a log
    say "installing the pinned packages (about 6 GB, some minutes the first time)"
    if "$python" -m pip install --quiet "$uv_pin" && "${uv[@]}" "${lists[@]}" &&
        "${uv[@]}" --no-build-isolation -e "$ROOT"; then
        rm -f "$BEGUN"
        return
    fi
    say "uv did not manage; trying again with pip"
    "$python" -m pip install --no-input --no-deps --force-reinstall "${lists[@]}" &&
        "$python" -m pip install --no-input --no-deps --no-build-isolation -e "$ROOT" && rm -f "$BEGUN"
}

(($# == 0)) || die "install.sh takes no arguments (got: $*): see the head of the file for its two settings"
[[ $(uname -s) == Linux ]] || die "this runs on Linux only, here is $(uname -s)"

if [[ -f $STAMP && -x $VENV/bin/python ]] && compgen -G "$VENV/lib/python3*/site-packages/__editable__*moslora*" >/dev/null &&
    version=$("$VENV/bin/python" -c "$VERSION_PY" 2>/dev/null) &&
    [[ $(<"$STAMP") == "$(pins_hash "$version")" ]]; then
    say "nothing to do: $VENV is up to date"
    exit 0
fi

python=$(find_python)
check_place
if command -v flock >/dev/null; then
    exec 9>>"$LOCK"
    flock -n 9 || { say "another install.sh works on $VENV; waiting for it" && flock 9; }
fi
make_venv "$python"
install_packages || die "the packages could not be installed: see the lines above, check network and disk, start again"
(cd / && "$VENV/bin/python" -c 'import torch, cv2, moslora_xtuner') ||
    die "the packages are there but do not import: remove $VENV and start again"
version=$("$VENV/bin/python" -c "$VERSION_PY")
pins_hash "$version" >"$STAMP.new" && mv "$STAMP.new" "$STAMP"
say "done: $VENV (Python $version)"
