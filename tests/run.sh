#!/usr/bin/env bash
# Run the tests, with a PostgreSQL server where one can be had.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
    if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
        log=$(mktemp)
        if (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            postgresql) >"$log" 2>&1; then
            rm -f "$log"
        else
            echo "tests on PostgreSQL are skipped: the package postgresql could not be installed, see $log" >&2
        fi
    else
        echo "tests on PostgreSQL are skipped: the package postgresql is missing, and only root can install it" >&2
    fi
fi

exec .venv/bin/pytest -n 2 --dist loadfile "$@"
