#!/bin/sh
# Runs what depends on the Python on every other one that is found. Used by the Makefile alone.
#   test_pythons.sh PYTHON WORKERS   PYTHON is the one that has been tested, WORKERS how many tests run at once
# PYTHONS names the interpreters instead, for those that are not on the PATH. Each gets a virtual environment (.venv-3.13).
set -eu

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

here=$(version_of "$1")
tested=""
failed=""
for python in ${PYTHONS:-python3.11 python3.12 python3.13 python3.14}; do
    # A name may be there and not work (pyenv's shims).
    if ! version=$(version_of "$python") || [ "$version" = "$here" ]; then
        continue
    fi
    echo "Python $version"
    venv=.venv-$version
    tested="$tested $version"
    # The packages are looked at each time: quick where nothing has changed.
    if PYTHON=$python scripts/prepare.sh venv "$venv" \
        && "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[dev]' \
        && "$venv/bin/python" -m pytest -q -p no:cacheprovider -n "$2" -m "not serial" \
            tests/unit/guards tests/unit/workflow tests/unit/worker tests/unit/replay \
            tests/unit/sdk_data/test_optional_libraries.py; then
        continue
    fi
    failed="$failed $version"
done
echo "beside $here, tested:${tested:- no other Python was found}; failed:${failed:- none}"
[ -z "$failed" ]
