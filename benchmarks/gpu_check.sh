#!/usr/bin/env bash
# What only a GPU can tell, in ten minutes: the fused neuron's bits, both benchmarks, a fit, the tests.
#
#     benchmarks/gpu_check.sh [FOLDER]      results in FOLDER, $OUT or gpu_check
#
# A part that fails or takes too long leaves the others running; summary.txt says how each ended,
# and the exit status is 1 if one did not end well. DEVICE=cpu tries the script without a GPU,
# LIMIT=SECONDS gives it other than 600. Wheels in .whl serve a machine without a network.
set -u
cd "$(dirname "$0")/.." || exit 1
out=$(realpath -m "${1:-${OUT:-gpu_check}}")
device=${DEVICE:-cuda} limit=${LIMIT:-600} python=${PYTHON:-python3}
work=$(mktemp -d) && trap 'rm -rf "$work"' EXIT
mkdir -p "$out" || exit 1
: >"$out/summary.txt"
export PYTHONPATH="$PWD:$work/packages${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
failed=0

# part NAME SECONDS COMMAND...: within its own limit and what is left of the whole
part() {
    local name=$1 most=$2 left=$((limit - SECONDS)) start=$SECONDS code
    shift 2
    if ((left < 5)); then
        echo "$name: left out, no time" | tee -a "$out/summary.txt"
        return
    fi
    timeout --kill-after=5 $((most < left ? most : left)) "$@" >"$out/$name.txt" 2>&1
    code=$?
    ((code == 0)) || failed=1
    echo "$name: exit status $code (124: out of time), $((SECONDS - start)) s" |
        tee -a "$out/summary.txt"
}

packages() {
    local missing=() pair
    for pair in jsonargparse:jsonargparse docstring_parser:docstring-parser \
        typeshed_client:typeshed-client; do
        "$python" -c "import ${pair%:*}" 2>/dev/null || missing+=("${pair#*:}")
    done
    ((${#missing[@]})) || return 0
    local from=()
    [[ -d .whl ]] && from=(--no-index --find-links .whl)
    # Beside the environment, which stays as it is; torch and all else are its own.
    "$python" -m pip install --quiet --target "$work/packages" --no-deps "${from[@]}" "${missing[@]}"
}

if ! packages >"$out/packages.txt" 2>&1; then
    failed=1
    echo "packages: not installed, see packages.txt" | tee -a "$out/summary.txt"
fi
part kernel 90 "$python" -m pytest tests/snn/test_fused_neuron.py -n 0 -rs
part digits 60 "$python" -m ftbc_lightning fit --config configs/digits_cnn.yaml \
    --trainer.accelerator "${device/cuda/gpu}" --trainer.default_root_dir "$work/digits"
part simulation 200 "$python" benchmarks/simulation.py --quick --limit 25 --device "$device"
part calibration 60 "$python" benchmarks/calibration.py --quick --samples 128 --passes 4 \
    --device "$device"
part suite "$limit" "$python" -m pytest --maxfail=20 -n 8
exit $failed
