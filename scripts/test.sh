#!/usr/bin/env bash
# Install what tests need, check style, types and import contracts, run the tests.
#
#   bash scripts/test.sh                          everything
#   bash scripts/test.sh -m "not slow"            arguments go to pytest
#   bash scripts/test.sh tests/test_output.py -k claim
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
bash "$ROOT/scripts/install.sh"
bash "$ROOT/scripts/check.sh"
cd "$ROOT"
if ! "${MOSLORA_VENV:-$ROOT/.venv}/bin/python" -m pytest "$@"; then
    echo "error: tests failed: run one alone with 'bash scripts/test.sh PATH::NAME -x' and mend it" >&2
    exit 1
fi
