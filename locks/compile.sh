#!/usr/bin/env bash
# Writes locks/control.txt and locks/data.txt from pyproject.toml.
#
# Resolve the data plane where PIP_FIND_LINKS offers a CPU build of torch: that lock then names none of the CUDA build's
# own packages, and the install step adds them only where the CUDA build is what it installs. The +cpu label is taken
# off again, so that the lock fits both builds.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=${UV:-.venv/bin/uv}
export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}}
compile() { "$uv" pip compile pyproject.toml --python-version 3.11 --no-header --no-annotate --no-emit-find-links --quiet "$@"; }
compile --extra control --extra test -o locks/control.txt
compile --extra data --extra test --extra lint --upgrade-package torch -o locks/data.txt
sed -i -E 's/^(torch==[0-9.]+)\+cpu$/\1/' locks/data.txt
if grep -q '^nvidia-' locks/data.txt; then
    echo "The data lock names CUDA packages: set PIP_FIND_LINKS to a folder with a CPU build of torch and compile again." >&2
    exit 1
fi
