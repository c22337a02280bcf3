#!/usr/bin/env bash
# Run the adapter's tests with other releases of peft and transformers, each in an environment without xtuner.
#
#   bash scripts/test_adapter_matrix.sh                 all of them
#   bash scripts/test_adapter_matrix.sh --write         all of them, and the table in docs/adapter.md
#   bash scripts/test_adapter_matrix.sh peft-0.21.2     one (.ci/run runs this one beside the pinned set)
#
# With more than one, adapters that each has saved are loaded by every other, too.
#
# Environments are kept under the user's cache; torch and the rest are the pinned ones.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/environments.sh"
declare -A SETS=(
    # torchao 0.15.0 is the last with the names that these two import; peft 0.17 cannot be imported with transformers 5
    [peft-0.17.1]="peft==0.17.1 transformers==4.48.0 torchao==0.15.0"
    [peft-0.18.1]="peft==0.18.1 transformers==4.48.0 torchao==0.15.0"
    [peft-0.18.1-transformers-newest]="peft==0.18.1 transformers torchao==0.15.0"
    [peft-0.21.2]="peft==0.21.2 transformers==4.48.0 torchao"
    [newest]="peft transformers torchao"
)
ORDER=(peft-0.17.1 peft-0.18.1 peft-0.18.1-transformers-newest peft-0.21.2 newest)

write=0
if [[ ${1:-} == --write ]]; then
    (($# == 1)) || die "--write takes no names: the table is of all the sets"
    write=1
    shift
fi
(($#)) || set -- "${ORDER[@]}"
PACKAGES="torch numpy accelerate bitsandbytes pytest pytest-xdist hypothesis typer"
PINS="$(grep -E "^(${PACKAGES// /|})==" "$ROOT/constraints.txt")"
failed=()
figures="$(mktemp -d)"
trap 'rm -r "$figures"' EXIT
for name in "$@"; do
    [[ -n ${SETS[$name]:-} ]] || die "$name is none of ${ORDER[*]}"
    place="$CACHE/adapter-$name"
    [[ $name == *newest ]] && newest=yes || newest=no
    # shellcheck disable=SC2086 # a list of requirements
    environment "adapter-$name" $newest "$PINS" $PACKAGES ${SETS[$name]}
    versions="$("$place/bin/python" -c 'import peft, transformers; print(f"peft {peft.__version__}, transformers {transformers.__version__}")')"
    printf 'matrix: %s (%s)\n' "$name" "$versions"
    # Not installed there: the sources alone, from this clone.
    PYTHONPATH="$ROOT" "$place/bin/python" -m pytest -q -n 2 --dist loadfile -p no:cacheprovider -o junit_family=xunit1 --junitxml="$figures/$versions.xml" \
        "$ROOT/tests/adapters" || failed+=("$name")
    PYTHONPATH="$ROOT" "$place/bin/python" "$ROOT/scripts/adapter_crossing.py" save "$figures/saved/$name" || failed+=("$name")
done
for name in "$@"; do
    PYTHONPATH="$ROOT" "$CACHE/adapter-$name/bin/python" "$ROOT/scripts/adapter_crossing.py" load "$figures"/saved/* || failed+=("$name")
done
((${#failed[@]} == 0)) || die "the adapter's tests failed with ${failed[*]}: see the lines above"
((write == 0)) || "$VENV/bin/python" "$ROOT/scripts/document_adapter.py" --figures "$figures"
