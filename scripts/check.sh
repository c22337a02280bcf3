#!/usr/bin/env bash
# Style (ruff), types (mypy) and import contracts (import-linter), on the environment of install.sh.
#
# mypy and import-linter look at a built tree, because only there eval/ really is moslora_xtuner.eval.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="${MOSLORA_VENV:-$ROOT/.venv}"
[[ $VENV == /* ]] || VENV="$PWD/$VENV"
BIN="$VENV/bin"
TREE="$(mktemp -d)"
trap 'rm -rf "$TREE"' EXIT

FAILED=0
step() { # step WHAT-TO-DO COMMAND...: all steps are run, and each that fails says what to do
    local advice="$1"
    shift
    "$@" || {
        printf 'error: %s failed: %s\n' "$(basename "$1")" "$advice" >&2
        FAILED=1
    }
}

[[ -x $BIN/ruff ]] || {
    echo "error: no environment at $VENV: run 'bash scripts/install.sh' first" >&2
    exit 3
}
cd "$ROOT"
step "see the lines above ('ruff check --fix .' mends many)" "$BIN/ruff" check .
step "run 'ruff format .' and commit" "$BIN/ruff" format --check .
"$BIN/python" setup.py -q build_py --build-lib "$TREE" 2>"$TREE/log" || {
    cat "$TREE/log" >&2
    echo "error: setup.py cannot build the package: see the lines above" >&2
    exit 1
}
cd "$TREE"
step "mend the types named above" \
    "$BIN/mypy" --config-file "$ROOT/pyproject.toml" --cache-dir "$ROOT/.mypy_cache" -p moslora_xtuner
step "an import goes upwards: see CONTRIBUTING.md, 'Floors'" \
    "$BIN/lint-imports" --config "$ROOT/pyproject.toml" --no-cache
exit $FAILED
