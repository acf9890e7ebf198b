#!/usr/bin/env bash
# Install what the tests hold this project against into .counterparts/, each in an environment of its own, since none
# resolves beside Airflow: an MLflow tracking server, Unleash, an Airflow with the FAB auth manager, and the evaluation
# tools that cases are exported for.
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

inspect() {
    .venv/bin/uv venv --quiet .counterparts/inspect/venv &&
        .venv/bin/uv pip install --quiet --python .counterparts/inspect/venv/bin/python inspect-ai==0.3.285
}

deepeval() {
    .venv/bin/uv venv --quiet .counterparts/deepeval/venv &&
        .venv/bin/uv pip install --quiet --python .counterparts/deepeval/venv/bin/python deepeval==4.3.1
}

promptfoo() { # without the clients of all its providers, but with the database that it cannot do without
    cd .counterparts/promptfoo && npm init --yes
    local lean=(npm install --no-audit --no-fund --ignore-scripts --omit=optional --omit=peer)
    "${lean[@]}" promptfoo@0.121.20 || return
    local version
    version=$(node -p "JSON.parse(require('fs').readFileSync('node_modules/libsql/package.json')).version")
    "${lean[@]}" "@libsql/linux-$(node -p process.arch)-gnu@$version"
}

export -f mlflow unleash fab inspect deepeval promptfoo
install mlflow bash -c mlflow &
install unleash bash -c unleash &
install fab bash -c fab &
install inspect bash -c inspect &
install deepeval bash -c deepeval &
install promptfoo bash -c promptfoo &
wait
