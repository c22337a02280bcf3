#!/usr/bin/env bash
# Gather into .gpu-kit/ the wheels that a bare GPU machine without a network lacks, this repository's own among them,
# and prove that they suffice: they are installed beside that machine's packages (machine.txt) and imported.
#
#   bash scripts/gpu/pack.sh [--no-rehearsal]
#
# On the machine, whose python3 is 3.12, from the repository's root:
#   python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target /tmp/site \
#       .gpu-kit/*.whl && export PYTHONPATH=/tmp/site PATH=/tmp/site/bin:$PATH
#   moslora train ...          # `python3 -m moslora_xtuner` only from elsewhere: here it would take the sources
#
#   MOSLORA_PYTHON312=PATH     use this Python 3.12
# Downloads and the rehearsal's environment (6 GB, some minutes once) are kept in ~/.cache/moslora-xtuner; no
# environment of the project is touched.
set -euo pipefail

HERE="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)"
ROOT="$(cd "$HERE/../.." && pwd -P)"
KIT="$ROOT/.gpu-kit"
CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/moslora-xtuner"
REHEARSAL="$CACHE/gpu-rehearsal"
LIMIT_MIB=50
PINS=(-c "$ROOT/constraints.txt" -c "$ROOT/requirements-nodeps.txt")
# What bitsandbytes loads there: torch 2.11.0 is built for CUDA 13.0; the CPU's for tests that run on no GPU.
KEEP=(bitsandbytes/libbitsandbytes_cuda130.so bitsandbytes/libbitsandbytes_cpu.so)
SOURCES=(setup.py pyproject.toml README.md LICENSE MANIFEST.in moslora_xtuner eval xtuner_configs)
IMPORTS=(transformers tokenizers huggingface_hub peft mmengine xtuner xtuner.tools.train datasets deepspeed
    bitsandbytes liger_kernel.transformers moslora_xtuner moslora_xtuner.plugin moslora_xtuner.model
    moslora_xtuner.training moslora_xtuner.export moslora_xtuner.cli moslora_xtuner.cli.app moslora_xtuner.configs
    moslora_xtuner.eval moslora_xtuner.eval.evaluator moslora_xtuner.eval.scoring.score
    moslora_xtuner.eval.vlmevalkit vlmeval.dataset vlmeval.config)

say() { printf 'pack: %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 3
}

find_python() { # prints a Python 3.12 that starts: a shim of that name may not
    local candidate
    local candidates=(python3.12 "$HOME"/.pyenv/versions/3.12*/bin/python3.12
        "$HOME"/.local/share/uv/python/cpython-3.12*/bin/python3.12 python3)
    if [[ -n ${MOSLORA_PYTHON312:-} ]]; then candidates=("$MOSLORA_PYTHON312"); fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys, venv, pip; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    die "no Python 3.12 with venv and pip (tried ${candidates[*]}): name one with MOSLORA_PYTHON312=/path/to/python3.12"
}

listed() { # the names of wheels.txt with the HOW given, `plain` for those without
    awk -v how="$1" '{ sub(/#.*/, "") } NF { kind = (NF > 1) ? $2 : "plain"; if (kind == how) print $1 }' "$HERE/wheels.txt"
}

edit_wheel() { # `reduce SOURCE TARGET KEEP...`, `stand-in TARGET NAME...`; RECORD must be right, else pip refuses
    "$PYTHON" - "$@" <<'PYTHON'
import base64
import hashlib
import pathlib
import sys
import zipfile

STAND_IN = '''"""Left out of the GPU pack, for its size; nothing there needs it beyond this import."""


class _LeftOut:
    def __init__(self, *args, **options):
        raise ImportError("{name} was left out of the GPU pack (scripts/gpu/wheels.txt): this needs the real one")


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return _LeftOut
'''


def write(path: pathlib.Path, files: dict[str, bytes], record: str) -> None:
    rows = ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as wheel:
        for name, data in files.items():
            wheel.writestr(name, data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows += f"{name},sha256={digest},{len(data)}\n"
        wheel.writestr(record, rows + f"{record},,\n")


def reduce(source: pathlib.Path, target: pathlib.Path, keep: list[str]) -> None:
    with zipfile.ZipFile(source) as wheel:
        names = [name for name in wheel.namelist() if not name.endswith("/")]
        if gone := [name for name in keep if name not in names]:
            sys.exit(f"error: {source.name} holds no {gone}: correct KEEP in scripts/gpu/pack.sh")
        record = next(name for name in names if name.endswith(".dist-info/RECORD"))
        files = {n: wheel.read(n) for n in names if n != record and (not n.endswith(".so") or n in keep)}
    write(target / source.name, files, record)


def stand_in(target: pathlib.Path, name: str) -> None:
    version, info = "0+left.out", f"{name}-0+left.out.dist-info"
    files = {
        f"{name}/__init__.py": STAND_IN.format(name=name),
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: pack.sh\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = target / f"{name}-{version}-py3-none-any.whl"
    write(path, {key: text.encode() for key, text in files.items()}, f"{info}/RECORD")


if sys.argv[1] == "reduce":
    reduce(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), sys.argv[4:])
else:
    for name in sys.argv[3:]:
        stand_in(pathlib.Path(sys.argv[2]), name)
PYTHON
}

gather() { # the wheels of wheels.txt, from the cache when the lists and this file are those of the last time
    local key folder n platforms=()
    key=$(cat "$HERE/wheels.txt" "$HERE/pack.sh" "$ROOT/constraints.txt" "$ROOT/requirements-nodeps.txt" | sha256sum)
    WHEELS="$CACHE/gpu-wheels/${key:0:16}"
    if [[ -e $WHEELS/.complete ]]; then return; fi
    say "downloading the wheels (under 100 MB)"
    # pip matches each of these tags exactly: all that Ubuntu 24.04 (glibc 2.39) can load.
    for n in 39 38 37 36 35 34 33 32 31 30 29 28 27 26 24 17 12 5; do platforms+=(--platform "manylinux_2_${n}_x86_64"); done
    platforms+=(--platform manylinux2014_x86_64 --platform manylinux2010_x86_64 --platform manylinux1_x86_64)
    folder="$WORK/gathered"
    mkdir -p "$folder" "$WORK/whole"
    listed plain >"$WORK/plain.txt"
    listed reduced >"$WORK/reduced.txt"
    listed source >"$WORK/source.txt"
    local fetch=("$PYTHON" -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 --implementation cp
        --abi cp312 --abi abi3 --abi none "${platforms[@]}" "${PINS[@]}")
    { "${fetch[@]}" -d "$folder" -r "$WORK/plain.txt" && "${fetch[@]}" -d "$WORK/whole" -r "$WORK/reduced.txt"; } ||
        die "a wheel could not be had: see the lines above; without a network try again later, without a wheel mark it 'source' in scripts/gpu/wheels.txt"
    # DS_BUILD_OPS=0: DeepSpeed's kernels are not compiled here; there they are compiled when one is first used.
    DS_BUILD_OPS=0 "$PYTHON" -m pip wheel -q --no-deps --no-binary :all: "${PINS[@]}" -w "$folder" -r "$WORK/source.txt" ||
        die "a wheel could not be built from source: see the lines above"
    local wheel left_out
    for wheel in "$WORK/whole"/*.whl; do edit_wheel reduce "$wheel" "$folder" "${KEEP[@]}"; done
    mapfile -t left_out < <(listed stand-in)
    edit_wheel stand-in "$folder" "${left_out[@]}"
    rm -rf "$CACHE/gpu-wheels"
    mkdir -p "$WHEELS"
    cp "$folder"/*.whl "$WHEELS/"
    : >"$WHEELS/.complete"
}

build_own() { # from a copy, so that a build/ left in the tree neither matters nor is made
    local copy="$WORK/sources"
    mkdir -p "$copy"
    tar -C "$ROOT" --exclude=__pycache__ -cf - "${SOURCES[@]}" | tar -C "$copy" -xf -
    "$PYTHON" -m pip wheel -q --no-deps -w "$NEW" "$copy" ||
        die "the repository's own wheel could not be built: see the lines above"
}

table() { # the wheels, the largest first, and their total; fails above the limit
    local total count
    find "$1" -name '*.whl' -printf '%s %f\n' | sort -rn | awk '{ printf "%8.2f MiB  %s\n", $1 / 1048576, $2 }'
    total=$(find "$1" -name '*.whl' -printf '%s\n' | awk '{ sum += $1 } END { print sum }')
    count=$(find "$1" -name '*.whl' | wc -l)
    printf '%8s MiB  in %s wheels, of at most %s MiB\n' "$(awk -v n="$total" 'BEGIN { printf "%.2f", n / 1048576 }')" "$count" "$LIMIT_MIB"
    ((total <= LIMIT_MIB * 1048576)) ||
        die "the pack is larger than $LIMIT_MIB MiB: make one of the largest a stand-in, or leave it out, in scripts/gpu/wheels.txt"
}

make_rehearsal() { # an environment with the machine's packages, made once for each state of machine.txt
    local stamp uv="" tool
    stamp=$(sha256sum <"$HERE/machine.txt")
    if [[ -e $REHEARSAL/.made-from && $(<"$REHEARSAL/.made-from") == "$stamp" ]]; then return; fi
    say "making the rehearsal's environment $REHEARSAL (once, 6 GB, some minutes)"
    rm -rf "$REHEARSAL"
    mkdir -p "$CACHE"
    "$PYTHON" -m venv "$REHEARSAL" || die "$PYTHON could not make $REHEARSAL: see the lines above"
    for tool in "$ROOT/.venv/bin/uv" uv; do
        if command -v "$tool" >/dev/null; then uv="$tool" && break; fi
    done
    # --no-deps: what machine.txt does not name must be missing here as it is there.
    if [[ -n $uv ]]; then
        UV_HTTP_TIMEOUT=180 "$uv" pip install -q --no-deps --python "$REHEARSAL/bin/python" -r "$HERE/machine.txt"
    else
        "$REHEARSAL/bin/python" -m pip install -q --no-deps -r "$HERE/machine.txt"
    fi || die "the machine's packages could not be installed in $REHEARSAL: see the lines above, check network and disk"
    printf '%s\n' "$stamp" >"$REHEARSAL/.made-from"
}

rehearse() { # what the machine will do: install the pack offline, import from it, start the programs
    local python="$REHEARSAL/bin/python" site="$WORK/site" file
    say "rehearsing: installing the pack beside the machine's packages and importing ${#IMPORTS[@]} modules"
    "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$site" "$NEW"/*.whl ||
        die "pip refuses the pack: see the lines above"
    (cd "$ROOT/moslora_xtuner/assets" && find . -type f ! -path '*/__pycache__/*') | while read -r file; do
        [[ -e $site/moslora_xtuner/assets/$file ]] || die "the repository's own wheel lacks assets/$file: see package_data in setup.py"
    done
    export PYTHONPATH="$site" PATH="$site/bin:$REHEARSAL/bin:$PATH"
    cd "$WORK" # not in the repository, whose sources would be found first
    "$python" -W ignore - "$site" "${IMPORTS[@]}" >"$WORK/imports.log" 2>&1 <<'PYTHON' || {
import importlib
import importlib.metadata
import sys
import traceback

site, *names = sys.argv[1:]
failed = []
for name in names:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        failed.append(f"PACK import {name} needs {error.name}, which neither the machine nor the pack has")
        traceback.print_exc()
    except Exception as error:
        failed.append(f"PACK import {name} fails: {type(error).__name__}: {error}")
        traceback.print_exc()
for found in importlib.metadata.distributions(path=[site]):
    name = found.metadata["Name"]
    if importlib.metadata.version(name) != found.version:
        failed.append(f"PACK {name} is not the pack's {found.version} but {importlib.metadata.version(name)}")
print("\n".join(failed))
sys.exit(bool(failed))
PYTHON
        sed -n 's/^PACK /error: /p' "$WORK/imports.log" | sort -u >&2
        cp "$WORK/imports.log" "$CACHE/gpu-imports.log"
        die "the pack does not suffice: add what is missing to scripts/gpu/wheels.txt (or to machine.txt if the machine has it); the whole log is $CACHE/gpu-imports.log"
    }
    moslora train --help >"$WORK/moslora.log" 2>&1 || die "moslora does not start: $(tail -n 3 "$WORK/moslora.log")"
    [[ -x $site/bin/xtuner ]] || die "the pack has no program xtuner, which moslora train starts"
    say "rehearsed: all ${#IMPORTS[@]} modules import and moslora starts with $("$python" -V), numpy $("$python" -c 'import numpy; print(numpy.__version__)')"
}

REHEARSE=1
for argument in "$@"; do
    case $argument in
        --no-rehearsal) REHEARSE="" ;;
        *) die "unknown argument $argument: pack.sh knows --no-rehearsal alone" ;;
    esac
done

export PIP_DISABLE_PIP_VERSION_CHECK=1
unset PYTHONPATH PYTHONHOME
PYTHON=$(find_python)
mkdir -p "$CACHE"
exec 9>>"$CACHE/gpu-pack.lock"
flock -n 9 || { say "another pack.sh is at work; waiting for it" && flock 9; }
WORK=$(mktemp -d "$CACHE/gpu-pack.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
NEW="$WORK/kit"
mkdir "$NEW"
rm -rf "$KIT" # no pack is better than an old one that looks new
gather
cp "$WHEELS"/*.whl "$NEW/"
build_own
table "$NEW"
if [[ -n $REHEARSE ]]; then
    make_rehearsal
    (rehearse)
else
    say "WARNING: NOT REHEARSED (--no-rehearsal): whether these wheels suffice is unknown; do not take them to the machine"
fi
mv "$NEW" "$KIT"
say "done: $KIT"
