#!/usr/bin/env bash
# Install into .counterparts/ what is tested against and has no place in .venv: an MLflow tracking server, Unleash, and
# an Airflow with the FAB auth manager.
# What cannot be had is said, and the tests that need it are skipped.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p .counterparts

install() { # NAME COMMAND...: once, within four minutes
    local name=$1 folder=.counterparts/$1
    shift
    [[ -e $folder/ready ]] && return
    rm -rf "$folder" && mkdir -p "$folder"
    if timeout 240 "$@" >"$folder/log" 2>&1; then
        touch "$folder/ready"
    else
        echo "tests on $name are skipped: it could not be installed, see $folder/log" >&2
        touch "$folder/failed"
    fi
}

mlflow() {
    .venv/bin/uv venv --quiet .counterparts/mlflow/venv &&
        .venv/bin/uv pip install --quiet --python .counterparts/mlflow/venv/bin/python mlflow==3.17.2
}

unleash() { # Unleash 6 is the last one for Node 18 and 20
    cd .counterparts/unleash && npm init --yes && npm install --no-audit --no-fund --ignore-scripts unleash-server@6.4.1
}

fab() { # the same Airflow as in .venv, with another auth manager
    .venv/bin/uv venv --quiet --python .venv/bin/python .counterparts/fab/venv &&
        .venv/bin/uv pip install --quiet --python .counterparts/fab/venv/bin/python --constraint constraints.txt \
            --editable . apache-airflow-providers-fab==3.10.2
}

export -f mlflow unleash fab
install mlflow bash -c mlflow &
install unleash bash -c unleash &
install fab bash -c fab &
wait
