#!/usr/bin/env bash
# Installs the shells whose completion tests/test_completion.py tries: Debian's zsh and fish:  tests/shells.sh
# The second time they are there already.
set -euo pipefail
source "$(dirname "$0")/debian.sh"

debian bash zsh fish
command -v bash zsh fish
