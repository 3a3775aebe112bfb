#!/usr/bin/env bash
# Runs charlm for ARM whole on another kind of host: Debian's Python and torch's wheel under qemu-user,
# the kernels compiled for ARM by tests/arm_cxx. For each of two processors: the kernels' errors, the
# tests in tests/native, a training, a sample. Needs Debian's packages qemu-user and dpkg, a Debian
# bookworm among apt's sources, 6 GB, and no root: apt gets lists of its own.
#   tests/campaigns/arm.sh [FOLDER]    FOLDER holds what is downloaded, and is used again
#   PYTHON: a Python with pip and the package ziglang; else .venv/bin/python
#   PROCESSORS: some of those in describe(); else "neoverse_n1 neoverse_v1"
#
# Of tests/native, those are left out that compile for the host or call its g++ (the names with
# "compile", "build" and "wrongly", as for the sanitizers in .ci/run, and "race"), and one without kernels
# in it, which fails here: the lecture's GRU by torch is not nearer to the equations than torch's autocast.
# The Neoverse N1 has int8 but no bfloat16: tests of bfloat16 skip there.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$(realpath -m "${1:-$(mktemp -d)}")
host=${PYTHON:-.venv/bin/python}
mkdir -p "$root"
echo "arm: everything is in $root"

CHARLM_ARM_ZIG=$("$host" -c 'import pathlib, ziglang; print(pathlib.Path(ziglang.__file__).with_name("zig"))')
export CHARLM_ARM_ZIG CXX="$PWD/tests/arm_cxx"
export PYTHONPATH="$PWD:$root/site" OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}" NO_COLOR=1

# Unpack Debian's Python 3.11 with the libraries that it and torch need.
unpack_system() {
  local apt="$root/apt"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial"
  : > "$apt/status"
  local own=(-o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root
    -o Dir::State="$apt" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt")
  apt-get -qq "${own[@]}" update
  apt-get -qq -y "${own[@]}" --no-install-recommends --download-only install \
    python3.11 libstdc++6 libgomp1
  for package in "$apt"/archives/*.deb; do dpkg -x "$package" "$root"; done
}

# Install torch's wheel for ARM, what else charlm depends on, and pytest.
install_packages() {
  local needs platforms=(--platform manylinux2014_aarch64)
  for minor in $(seq 17 36); do platforms+=(--platform "manylinux_2_${minor}_aarch64"); done
  mapfile -t needs < <("$host" -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"], sep="\n")')
  "$host" -m pip install -q --no-compile --target "$root/site" "${platforms[@]}" \
    --only-binary=:all: --implementation cp --python-version 3.11 -c constraints.txt \
    "${needs[@]}" pytest pytest-xdist
}

# Write a program that starts Python under qemu; as sys.executable it also starts Python's children.
write_python() {
  cat > "$root/python" << END
#!/bin/sh
PYTHONHOME='$root/usr' exec qemu-aarch64 -cpu "\$CHARLM_ARM_QEMU" -0 '$root/python' \\
  -L '$root' '$root/usr/bin/python3.11' "\$@"
END
  chmod +x "$root/python"
}

# Set the processor that qemu has, and the files of the kernel that describe it: torch reads them, and
# crashes with those of a host that is no ARM.
describe() {
  local part features="fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm"
  features="$features lrcpc dcpop asimddp"
  export CHARLM_ARM_CPU=$1 CHARLM_ARM_QEMU CHARLM_CACHE="$root/cache-$1"
  export CHARLM_ARM_TYPES="float32 int8"
  case $1 in
    neoverse_n1) part=d0c CHARLM_ARM_QEMU=neoverse-n1 ;;
    neoverse_v1) # it has no SME, of which qemu knows too little for torch's bfloat16
      part=d40 CHARLM_ARM_QEMU=max,pauth-impdef=on,sme=off CHARLM_ARM_TYPES="float32 bfloat16 int8"
      features="$features sha3 sha512 sve asimdfhm dit uscat ilrcpc flagm svei8mm svebf16 i8mm bf16" ;;
    *) echo "arm: no processor $1" >&2; exit 2 ;;
  esac
  local registers="$root/sys/devices/system/cpu/cpu0/regs/identification"
  mkdir -p "$registers" "$root/proc"
  echo "0x00000000411f${part}1" > "$registers/midr_el1"
  for number in $(seq 0 $(($(nproc) - 1))); do
    printf 'processor\t: %s\nBogoMIPS\t: 243.75\nFeatures\t: %s\nCPU implementer\t: 0x41\n' \
      "$number" "$features"
    printf 'CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0x%s\nCPU revision\t: 1\n\n' "$part"
  done > "$root/proc/cpuinfo"
}

# Print the largest errors of the compiled kernels, and check the types that they and training choose.
measure_kernels() {
  "$root/python" - << 'END'
import os
import torch
from charlm.backends.device import resolve_precision
from charlm.config.schema import TrainConfig
from charlm.native import library, verify
from charlm.native.interface import Kernels

opened = library.load_library()  # compiled now, and accepted by verify.find_error
kernels = Kernels(opened)
for name in kernels.types:
    for error, result in verify._errors(kernels, name):
        print(f"{name} {error:.1e} {result}")
assert verify.find_error(opened) == ""
assert kernels.types == os.environ["CHARLM_ARM_TYPES"].split(), kernels.types
precision = resolve_precision(TrainConfig(), torch.device("cpu"))
assert (precision == torch.bfloat16) == ("bfloat16" in kernels.types), precision
print(f"types {kernels.types}; vectors of {kernels.width}; training chooses {precision}")
END
}

test_kernels() {
  "$root/python" -m pytest tests/native -q --durations=5 -o cache_dir="$root/pytest-$1" \
    -k "not compile and not build and not wrongly and not race and not lectures_gru_by_torch"
}

train_and_sample() {
  local work
  work=$(mktemp -d)
  cat README.md CONTRIBUTING.md CHANGELOG.md > "$work/text.txt"
  "$root/python" -m charlm train --data "$work/text.txt" --run "$work/run" --json --quiet --set \
    train.steps=20 --set model.hidden_size=40 --set train.backend=native > "$work/trained.json"
  cat "$work/trained.json"
  grep -q '"backend": *"native"' "$work/trained.json"
  for precision in $CHARLM_ARM_TYPES; do
    "$root/python" -m charlm sample "$work/run" --length 200 --precision "$precision" --seed 1
  done
  rm -r "$work"
}

step() {
  echo "arm: $CHARLM_ARM_CPU: $*"
  local started=$SECONDS
  "$@"
  echo "arm: $CHARLM_ARM_CPU: $1 took $((SECONDS - started)) s"
}

if [ ! -e "$root/system.done" ]; then # not with ||, by which a function goes on after an error
  unpack_system
  touch "$root/system.done"
fi
if [ ! -e "$root/site.done" ]; then
  install_packages
  touch "$root/site.done"
fi
write_python
for processor in ${PROCESSORS:-neoverse_n1 neoverse_v1}; do
  describe "$processor"
  step measure_kernels
  step test_kernels "$processor"
  step train_and_sample
done
