#!/usr/bin/env bash
# Run the tests, with the servers that some of them need where they can be had.
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
command -v prometheus >/dev/null || missing+=(prometheus)
compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || missing+=(faketime)

if ((${#missing[@]})); then
    if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
        log=$(mktemp)
        if (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
            "${missing[@]}") >"$log" 2>&1; then
            rm -f "$log"
        else
            echo "tests that need ${missing[*]} are skipped: not installed, see $log" >&2
        fi
    else
        echo "tests that need ${missing[*]} are skipped: packages that are missing, and only root can install" >&2
    fi
fi

# The tests that need these wait for them.
tests/counterparts.sh &

.venv/bin/pytest -n 2 --dist loadfile "$@"
