#!/usr/bin/env bash
# Install what tests need, check style, types and import contracts, run the tests.
#
#   bash scripts/test.sh                          everything
#   bash scripts/test.sh -m "not slow"            arguments go to pytest
#   bash scripts/test.sh -n 0                     in one process, not in two
#   bash scripts/test.sh tests/test_output.py -k claim
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="${MOSLORA_VENV:-$ROOT/.venv}"
[[ $VENV == /* ]] || VENV="$PWD/$VENV"

bash "$ROOT/scripts/install.sh"
checks=0 tests=0
bash "$ROOT/scripts/check.sh" || checks=1 # the tests run all the same: one look shows all that is wrong
cd "$ROOT"
# Two processes, a file each: more would want more memory than a small machine has.
"$VENV/bin/python" -m pytest -n 2 --dist loadfile --no-loadscope-reorder "$@" || tests=$?
if ((tests)); then
    echo "error: tests failed (pytest status $tests): mend them; 'bash scripts/test.sh PATH::NAME -x' runs one alone" >&2
fi
if ((checks)); then
    echo "error: checks failed: see the lines above the tests; 'bash scripts/check.sh' runs them alone" >&2
fi
exit $((tests || checks))
