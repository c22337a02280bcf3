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

step() { # step WHAT-TO-DO COMMAND...: run quietly named, one line when it fails
    local advice="$1"
    shift
    "$@" || {
        printf 'error: %s failed: %s\n' "$(basename "$1")" "$advice" >&2
        exit 1
    }
}

[[ -x $BIN/ruff ]] || {
    echo "error: no environment at $VENV: run 'bash scripts/install.sh' first" >&2
    exit 3
}
cd "$ROOT"
step "see the lines above ('ruff check --fix .' mends many)" "$BIN/ruff" check .
step "run 'ruff format .' and commit" "$BIN/ruff" format --check .
step "setup.py cannot build the package, see above" "$BIN/python" setup.py -q build_py --build-lib "$TREE" 2>/dev/null
cd "$TREE"
step "mend the types named above" \
    "$BIN/mypy" --config-file "$ROOT/pyproject.toml" --cache-dir "$ROOT/.mypy_cache" -p moslora_xtuner
step "an import goes upwards: see CONTRIBUTING.md, 'Floors'" \
    "$BIN/lint-imports" --config "$ROOT/pyproject.toml" --no-cache
