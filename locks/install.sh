#!/usr/bin/env bash
# install.sh control|data FOLDER [without-code]: makes one of the two environments in FOLDER from its lock. Both `make
# setup` and the images use it. When FOLDER already is what the lock asks for, it does nothing. An image installs without
# the code first, so that a change of code does not fetch packages again.
set -euo pipefail
plane=${1:?"say which environment: control or data"}
folder=${2:?"say which folder the environment goes into"}
code=${3:-with-code}
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3.11}
command -v "$python" >/dev/null || python=python3

fail() { echo "setup: $*" >&2; exit 1; }

[[ $plane == control || $plane == data ]] || fail "there is no environment called '$plane'; there are control and data."
"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null ||
    fail "Python 3.11 is needed; set PYTHON to its path, for example PYTHON=/usr/bin/python3.11."

# uv reads other names than pip for the same wishes.
export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-}}
export SSL_CERT_FILE=${SSL_CERT_FILE:-${PIP_CERT:-}}
for name in UV_FIND_LINKS UV_DEFAULT_INDEX SSL_CERT_FILE; do [[ -n ${!name} ]] || unset "$name"; done
export UV_LINK_MODE=${UV_LINK_MODE:-copy} UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}

fingerprint=$(cat "$root/locks/$plane.txt" "$root/locks/install.sh" "$root/pyproject.toml" <("$python" -VV) <(echo "$root $code ${UV_FIND_LINKS:-}") | sha256sum | cut -d' ' -f1)
stamp=$folder/.installed
if [[ -f $stamp && $(<"$stamp") == "$fingerprint" ]]; then
    echo "setup: the $plane environment is up to date."
    exit 0
fi

echo "setup: making the $plane environment in ${folder#"$root"/} (the first time this fetches packages and takes some minutes)"
rm -f "$stamp"
if [[ ! -x $folder/bin/uv ]]; then
    "$python" -m venv --clear "$folder" 2>/dev/null ||
        fail "Python's venv module does not work here; install it, for example: apt install python3.11-venv"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check -r "$root/locks/uv.txt"
fi
# Not 'sync': a lock resolved for torch's CPU build does not list what its CUDA build requires; install resolves that.
"$folder/bin/uv" pip install --quiet --python "$folder/bin/python" -r "$root/locks/$plane.txt"

if [[ $plane == data ]]; then
    # opencv-python and opencv-contrib-python share the folder cv2, and the one that is put in place last wins: that must
    # be contrib, which holds the other. A bare server has no libGL.so.1, which both want; the headless builds of the same
    # version do not, and are put in place of both, keeping the names that others ask for.
    version=$(sed -n 's/^opencv-python==//p' "$root/locks/data.txt")
    opencv() { for name in "$@"; do "$folder/bin/uv" pip install --quiet --python "$folder/bin/python" --no-deps --reinstall "$name==$version"; done; }
    works() { "$folder/bin/python" -c 'import cv2; cv2.img_hash.pHash' 2>/dev/null; }
    works || opencv opencv-contrib-python
    works || opencv opencv-python-headless opencv-contrib-python-headless
    works || fail "OpenCV cannot be loaded with its contrib modules, even in its headless build."
    # The code itself, as a link to this folder, with the command 'dubmill'.
    [[ $code == without-code ]] || "$folder/bin/uv" pip install --quiet --python "$folder/bin/python" --no-deps --editable "$root"
fi
echo "$fingerprint" > "$stamp"
echo "setup: the $plane environment is ready."
