#!/usr/bin/env bash
# Installs TensorBoard and what it needs, for tests/test_events.py:  tests/tensorboard.sh
#
# 20 MB, so it is an extra and not in requirements.lock:  pip install 'lmstages[tensorboard]'. The second time it is
# there already.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}
pins=(tensorboard==2.21.0 absl-py==2.5.1 grpcio==1.85.3 protobuf==7.36.2 tensorboard-data-server==0.7.2 werkzeug==3.1.9)

"$python" -c 'import tensorboard.summary' 2>/dev/null ||
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps "${pins[@]}"
"$python" -c 'import tensorboard; print(tensorboard.__file__)'
