#!/usr/bin/env bash
# Installs what tests/test_page.py and docs/screenshots.py drive: Debian's chromium, its driver, and the selenium of the
# lock:  tests/browser.sh. The second time they are there already; no browser is downloaded from anywhere else.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}

missing=()
for package in chromium chromium-driver; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if ((${#missing[@]})); then
    as_root=$([[ $(id -u) == 0 ]] || echo sudo)
    $as_root apt-get update -qq
    $as_root apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi
"$python" -c 'import selenium' 2>/dev/null ||
    "$python" -m pip install --quiet --disable-pip-version-check "$(grep '^selenium==' requirements.lock)"
command -v chromium chromedriver
