#!/usr/bin/env bash
# Run `moslora eval --kit` with the real lm-evaluation-harness, and hold its figures against a plain loop.
#
#   bash scripts/test_lm_eval.sh                  the packaged model, a minute
#   bash scripts/test_lm_eval.sh --model FOLDER   another language model
#
# Not part of .ci/run. The environment holds the harness and what it needs beside the pinned set, which it borrows.
set -euo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/environments.sh"
place="$CACHE/lm-eval"
PACKAGES=(lm-eval==0.4.13 evaluate==0.4.6 pytablewriter==1.2.1 sacrebleu==2.6.0 rouge-score==0.1.2 sqlitedict==2.1.0
    word2number==1.1 more-itertools==11.2.1 colorama==0.4.6 lxml==6.1.3 tcolorpy==0.1.7 typepy==1.3.5
    dataproperty==1.1.1 mbstrdecoder==1.1.5 pathvalidate==3.3.1 tabledata==1.3.5 chardet==6.0.0.post1)
if [[ ! -f $place/.set || $(<"$place/.set") != "${PACKAGES[*]}" ]]; then
    rm -f "$place/.set"
    "$VENV/bin/uv" venv --quiet --allow-existing --python "$VENV/bin/python" "$place"
    "$VENV/bin/uv" pip install --quiet --no-deps --python "$place/bin/python" "${PACKAGES[@]}"
    printf '%s' "${PACKAGES[*]}" >"$place/.set"
fi
borrowed="$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
site="$("$place/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
printf 'import site; site.addsitedir("%s")\n' "$borrowed" >"$site/borrowed.pth"
"$place/bin/python" "$ROOT/scripts/harness/real.py" "$@"
