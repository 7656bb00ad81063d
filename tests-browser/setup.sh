#!/usr/bin/env bash
# Makes ready what the tests of the page need, a browser and the packages of package-lock.json, and prints the browser.
#
# CHROMIUM names a browser; without it Chromium of the system is used, and where there is none, Debian's is installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

browser=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
if [[ -z $browser ]]; then
    as_root=()
    [[ $(id -u) == 0 ]] || as_root=(sudo)
    "${as_root[@]}" apt-get update --quiet >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends chromium >&2
    browser=$(command -v chromium)
fi
npm ci --no-audit --no-fund --silent >&2
echo "$browser"
