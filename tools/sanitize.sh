#!/usr/bin/env bash
# The kernels under AddressSanitizer and UndefinedBehaviorSanitizer: builds them and runs the tests of
# the convolutions and of the engine that uses them, on every instruction set of this machine.
#
#     tools/sanitize.sh [PYTEST ARGUMENTS]     # default: what csrc/cpu does; needs torch, pytest,
#                                              # cmake, ninja and pybind11
#
# Leaks are not counted: Python and PyTorch keep memory until the process ends. The kernels read and
# write PyTorch's memory, so an access beyond a tensor is seen only because AddressSanitizer replaces
# `malloc` under PyTorch too.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/asan
cmake -S . -B $build -G Ninja -DFASTNST_SANITIZE=ON -DFASTNST_WERROR=ON -DFASTNST_CUDA=OFF \
  -Dpybind11_DIR="$(python -m pybind11 --cmakedir)" >/dev/null
cmake --build $build
rm -rf $build/site
mkdir -p $build/site
cp -r python/fastnst $build/site/
rm -f $build/site/fastnst/_C.*.so
cp $build/_C.*.so $build/site/fastnst/

if [ $# -eq 0 ]; then
  set -- -m "not slow" tests/ops tests/engines/planned/test_cpu.py
fi
# Python ends with the first finding: nothing recovers from one.
PYTHONPATH=$build/site \
  ASAN_OPTIONS=detect_leaks=0 \
  UBSAN_OPTIONS=print_stacktrace=1 \
  LD_PRELOAD="$("${CXX:-g++}" -print-file-name=libasan.so) $("${CXX:-g++}" -print-file-name=libubsan.so)" \
  python -m pytest -q -p no:cacheprovider "$@"
