#!/usr/bin/env bash
# Installs what tests/test_page.py and docs/screenshots.py drive: Debian's chromium, its driver, and the selenium of the
# lock:  tests/browser.sh. The second time they are there already; no browser is downloaded from anywhere else.
set -euo pipefail
cd "$(dirname "$0")/.."
source tests/debian.sh

python=${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}

debian chromium chromium-driver
"$python" -c 'import selenium' 2>/dev/null ||
    "$python" -m pip install --quiet --disable-pip-version-check "$(grep '^selenium==' requirements.lock)"
command -v chromium chromedriver
