#!/usr/bin/env bash
# What a GPU has to show, in ten minutes: that it gives the right values, and how long it takes.
#
#     bash benchmarks/gpu_check.sh [--device cpu] [--quick] [--cifar FILE.npz] [--wheels FOLDER] [OUT]
#
# Each part has a time limit of its own; what it prints goes to OUT/PART.txt (./gpu_check), and one
# that fails stops no other. --quick shows on a CPU that every part runs; its figures mean nothing.
# --cifar trains ResNet-20 for four epochs on a file of the form of ArrayDataModule; --wheels
# installs what is missing from a folder, where no registry can be reached.
set -uo pipefail

device=cuda quick="" cifar="" wheels="" out=gpu_check
while (($#)); do
  case $1 in
    --device) device=${2:?}; shift ;;
    --quick) quick=yes ;;
    --cifar) cifar=$(realpath "${2:?}"); shift ;;
    --wheels) wheels=$(realpath "${2:?}"); shift ;;
    -*) echo "There is no option $1."; exit 2 ;;
    *) out=$1 ;;
  esac
  shift
done
mkdir -p "$out"
out=$(realpath "$out")
cd "$(dirname "$0")/.." || exit 2
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
accelerator=gpu
[[ $device == cpu ]] && accelerator=cpu
budget=580 failed=0
runs=$(mktemp -d)
trap 'rm -rf "$runs"' EXIT
: >"$out/summary.txt"

# part NAME SECONDS COMMAND...: run it within its limit and within what is left of the ten minutes
part() {
  local name=$1 limit=$2 began=$SECONDS status=0 words
  shift 2
  ((limit > budget - began)) && limit=$((budget - began))
  if ((limit < 5)); then
    words="left out: no time"
  else
    timeout -k 5 "$limit" "$@" >"$out/$name.txt" 2>&1 || status=$?
    words="ok"
    ((status)) && words="failed with $status" && failed=1
    ((status == 124 || status == 137)) && words="stopped after its $limit s"
  fi
  printf '%-12s %4d s  %s\n' "$name" $((SECONDS - began)) "$words" | tee -a "$out/summary.txt"
  [[ $words == ok || ! -f $out/$name.txt ]] || tail -n 4 "$out/$name.txt" | sed 's/^/    /'
}

packages() {
  local missing=()
  for name in jsonargparse docstring-parser typeshed-client; do
    "$python" -c "import ${name//-/_}" 2>/dev/null || missing+=("$name")
  done
  ((${#missing[@]})) || return 0
  local from=()
  [[ $wheels ]] && from=(--no-index --find-links "$wheels")
  timeout 60 "$python" -m pip install --quiet "${from[@]}" "${missing[@]}" >>"$out/summary.txt" 2>&1
}

fit() { # fit NAME SECONDS OPTIONS...
  local name=$1 limit=$2
  shift 2
  part "$name" "$limit" "$python" -m ftbc_lightning fit "$@" --trainer.accelerator "$accelerator" \
    --trainer.default_root_dir "$runs/$name" --quiet
}

packages || echo "packages     cannot be installed: see summary.txt"

if [[ $quick ]]; then
  simulation=(--quick --limit 1 --repeats 1) calibration=(--quick --samples 4 --passes 1 --repeats 1)
  published=(--samples 2 --size 64 --timesteps 2) tests=(tests/snn/test_neuron.py) epochs=1
else
  simulation=(--quick --limit 15) calibration=(--quick --samples 128 --passes 8)
  published=() tests=(-n "$(nproc)") epochs=4
fi
part kernel 90 "$python" -m pytest -n 0 -ra tests/snn/test_fused_neuron.py
part published 110 "$python" benchmarks/published_time.py --device "$device" "${published[@]}"
part simulation 120 "$python" benchmarks/simulation.py --device "$device" "${simulation[@]}"
part calibration 90 "$python" benchmarks/calibration.py --device "$device" "${calibration[@]}"
fit digits 60 --config digits_cnn ${quick:+--trainer.max_epochs=1 --timesteps=2}
[[ $cifar ]] && fit cifar 120 --config cifar10_resnet20 --data ArrayDataModule \
  --data.path "$cifar" --data.augmentation cifar --trainer.max_epochs "$epochs" \
  --model.lr_scheduler.init_args.T_max "$epochs" --timesteps 4,8
part tests 600 "$python" -m pytest "${tests[@]}"

echo "All of it lies in $out; $SECONDS s."
exit "$failed"
