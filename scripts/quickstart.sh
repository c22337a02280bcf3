#!/usr/bin/env bash
# From a fresh clone to a score table and report.html: install, then train, export, evaluate, report.
#
#   bash scripts/quickstart.sh [-o DIR] [--seed N] [--fast]
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
bash "$ROOT/scripts/install.sh"
VENV="${MOSLORA_VENV:-$ROOT/.venv}"
[[ $VENV == /* ]] || VENV="$PWD/$VENV"
exec "$VENV/bin/moslora" quickstart "$@"
