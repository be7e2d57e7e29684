#!/usr/bin/env bash
# Builds KenLM's lmplz and query for tests/test_kenlm.py and benchmarks/ngram.py:  tests/kenlm.sh [FOLDER]
#
# The source is the `kenlm` package's own, from the package registry, built with Debian's tools; the binaries lie
# in FOLDER/bin, by default $XDG_CACHE_HOME/lmstages/kenlm (~/.cache/lmstages/kenlm), where the test looks.
# The second time they are there already.
set -euo pipefail
source "$(dirname "$0")/debian.sh"

version=0.3.0
longest_order=12
cache=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/lmstages/kenlm}
python=${PYTHON:-python3}

if [[ -x $cache/bin/lmplz && -x $cache/bin/query ]]; then
    echo "$cache/bin"
    exit
fi

debian cmake g++ make zlib1g-dev libbz2-dev liblzma-dev \
    libboost-program-options-dev libboost-system-dev libboost-thread-dev libboost-test-dev

building=$(mktemp -d)
trap 'rm -rf "$building"' EXIT
"$python" -m pip download --quiet --no-deps --no-binary kenlm --dest "$building" "kenlm==$version"
tar -xzf "$building/kenlm-$version.tar.gz" -C "$building"
cmake -S "$building/kenlm-$version" -B "$building/build" -DCMAKE_BUILD_TYPE=Release \
    -DKENLM_MAX_ORDER=$longest_order -DCMAKE_POLICY_VERSION_MINIMUM=3.5 >&2
cmake --build "$building/build" --target lmplz query --parallel "${JOBS:-1}" >&2

mkdir -p "$cache/bin"
cp "$building/build/bin/lmplz" "$building/build/bin/query" "$cache/bin/"
echo "$cache/bin"
