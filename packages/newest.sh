#!/bin/sh
# Try the newest releases of all that is pinned: `make newest` runs this, with UV and PYTHON. What it installs goes into
# .venv-newest. Prints what is newer than the lock, then runs tests of the three frameworks; ends with their status.
# FastEstimator and setuptools stay: packages/fe_compat/pyproject.toml says why.
set -eu
NAMES=$(sed -n '/^\(dependencies\|fastestimator\|torch\|tensorflow\) = \[$/,/^\]/s/^    "\([A-Za-z][A-Za-z0-9._-]*\).*/\1/p' \
    pyproject.toml packages/*/pyproject.toml | sort -u | grep -vE '^(fastestimator|fe-compat|opencv-python.*|setuptools)$')
LOCK=requirements/lock-$($PYTHON -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt

$UV venv --quiet --clear --python "$PYTHON" .venv-newest
$UV pip install --quiet --python .venv-newest 'setuptools<81' opencv-python-headless pytest pytest-xdist hypothesis $NAMES
$UV pip install --quiet --python .venv-newest --no-deps fastestimator==1.7.0 -e packages/fe_compat -e packages/fe_mindspore -e .

echo "Not as in $LOCK:"
$UV pip freeze --python .venv-newest 2>/dev/null | awk -F '==| ' '
    NR == FNR { if (/^[a-z]/) locked[$1] = $2; next }
    locked[$1] && locked[$1] != $2 { printf "  %-28s %-14s %s\n", $1, locked[$1], $2 }' "$LOCK" -
.venv-newest/bin/python -m pytest -q packages tests/test_three_frameworks.py tests/parity
