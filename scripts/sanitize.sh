#!/usr/bin/env bash
# Builds with address and undefined-behaviour sanitizers (or the preset named: tsan) and runs every test.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-asan}
scripts/setup.sh
cmake --preset "$preset"
cmake --build --preset "$preset"
ctest --preset "$preset" -j "$(nproc)"
