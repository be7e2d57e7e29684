#!/usr/bin/env bash
# Builds llama-cpp-python for tests/test_llama_cpp.py:  tests/llama_cpp.sh [FOLDER]
#
# The source is the package's own, from the package registry, built with Debian's tools in some ten CPU minutes. It
# lies in FOLDER, by default $XDG_CACHE_HOME/lmstages/llama_cpp (~/.cache/lmstages/llama_cpp), where the test looks;
# `PYTHONPATH=FOLDER` gives it to a run. Beside it are the vocabularies (76 MB) with which llama.cpp tests itself. The
# second time all is there already. For an environment of one's own:
#   pip install --no-binary llama-cpp-python 'lmstages[llama-cpp]'
set -euo pipefail
source "$(dirname "$0")/debian.sh"

version=0.3.36
diskcache=5.6.3
cache=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/lmstages/llama_cpp}
python=${PYTHON:-python3}

vocabularies_of() {
    mkdir -p "$2/vocabularies"
    tar -xzf "$1" -C "$2/vocabularies" --wildcards --transform 's|.*/||' '*/models/ggml-vocab-*'
}

source_to() {
    "$python" -m pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$1" "llama-cpp-python==$version" >&2
    echo "$1"/llama_cpp_python-*.tar.gz
}

building=$(mktemp -d)
trap 'rm -rf "$building"' EXIT
if [[ -f $cache/llama_cpp/__init__.py ]]; then
    [[ -f $cache/vocabularies/ggml-vocab-qwen2.gguf ]] || vocabularies_of "$(source_to "$building")" "$cache"
    echo "$cache"
    exit
fi

debian cmake g++ ninja-build

export CMAKE_BUILD_PARALLEL_LEVEL=${JOBS:-1}
export CMAKE_ARGS="-DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF"
source=$(source_to "$building")
"$python" -m pip wheel --quiet --no-deps --wheel-dir "$building" "$source" >&2
"$python" -m pip install --quiet --no-deps --target "$building/made" "$building"/llama_cpp_python-*.whl "diskcache==$diskcache" >&2
vocabularies_of "$source" "$building/made"

mkdir -p "$(dirname "$cache")"
rm -rf "$cache"
mv "$building/made" "$cache"
echo "$cache"
