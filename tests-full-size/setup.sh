#!/usr/bin/env bash
# Makes the Python environment of these tests and prints its interpreter.
#
#   setup.sh [requirements-onnx.txt ...]
#
# It lies in $CONTEXTUNE_TEST_CACHE/venv (default: ~/.cache/contextune-tests/venv). What
# is there already, by the content of the requirements, is not installed again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${CONTEXTUNE_TEST_CACHE:-$HOME/.cache/contextune-tests}
venv=$cache/venv
python=${PYTHON:-python3.11}

if [[ $("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>&1) != 3.11 ]]; then
    echo "setup.sh: $python is not Python 3.11, for which requirements.txt is pinned; name one with PYTHON=..." >&2
    exit 1
fi

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9

digest() { cat "$@" | sha256sum | cut -d ' ' -f 1; }
is_installed() { [[ -f $1 && $(<"$1") == "$2" ]]; }
install() {
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-compile \
        --only-binary :all: --no-deps -r "$1" >&2
}

base=$(digest "$here/requirements.txt" "$here/stub_gpu_libraries.py" "$here/setup.sh")
if ! is_installed "$venv/requirements.txt.sha256" "$base"; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
    install "$here/requirements.txt"
    "$venv/bin/python" "$here/stub_gpu_libraries.py"
    "$venv/bin/python" -c 'import torch; assert (torch.ones(2, 2) @ torch.ones(2, 2)).sum() == 8'
    # The mark comes last, so that an interrupted run is begun again.
    echo "$base" >"$venv/requirements.txt.sha256"
fi
for extra in "$@"; do
    wanted=$(digest "$here/$extra")
    if ! is_installed "$venv/$extra.sha256" "$wanted"; then
        install "$here/$extra"
        echo "$wanted" >"$venv/$extra.sha256"
    fi
done

echo "$venv/bin/python"
