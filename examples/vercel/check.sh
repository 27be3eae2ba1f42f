#!/usr/bin/env bash
# Builds the function with Vercel's own command line, and checks it against a real PostgreSQL: DATABASE_URL, or a throwaway one.
# VERCEL names a command line that is installed already. What it starts it ends; the checkout stays as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
cluster=
server=
finish() {
    if [ -n "$server" ]; then
        kill -INT "$server" && wait "$server" || true
    fi
    rm -rf "$work" "$cluster"
}
trap finish EXIT

step() {
    printf '\n=== %s (%ss)\n' "$*" "$SECONDS"
}

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export VERCEL_TELEMETRY_DISABLED=1 NO_UPDATE_NOTIFIER=1

if [ -z "${VERCEL:-}" ]; then
    step "Vercel's command line"
    npm install --prefix "$work/cli" --no-audit --no-fund --loglevel=error vercel@60.1.3
    VERCEL=$work/cli/node_modules/.bin/vercel
fi

step "the function, built"
mkdir -p "$work/checkout/.vercel"
git ls-files --cached --others --exclude-standard -z | tar --create --null --files-from=- --ignore-failed-read | tar --extract --directory "$work/checkout"
# What `vercel link` would write; the build talks to nobody.
echo '{"projectId":"prj_none","orgId":"team_none","settings":{"rootDirectory":"examples/vercel"}}' >"$work/checkout/.vercel/project.json"
# Without the variable it would be cross-compiled by cargo-zigbuild; with it, as on Vercel's machines, by cargo.
(cd "$work/checkout" && VERCEL_BUILD_IMAGE=1 "$VERCEL" build --yes --token none --global-config "$work/config")
function=$work/checkout/.vercel/output/functions/rust.func
ls -l "$function"

step "PostgreSQL"
bin=$(compgen -G '/usr/lib/postgresql/*/bin' | sort --version-sort | tail -1) || bin=$(dirname "$(command -v postgres)")
psql=$(command -v psql || echo "$bin/psql")
if [ -z "${DATABASE_URL:-}" ]; then
    cluster=$(mktemp -d)
    as=()
    if [ "$(id -u)" = 0 ]; then
        # PostgreSQL refuses to run as root.
        chown postgres: "$cluster"
        as=(setpriv --reuid=postgres --regid=postgres --init-groups)
    fi
    "${as[@]}" "$bin/initdb" --pgdata="$cluster/data" --username=postgres --auth=trust --encoding=UTF8 --no-locale >"$work/initdb.log"
    "${as[@]}" "$bin/postgres" -D "$cluster/data" -c listen_addresses= -c unix_socket_directories="$cluster" >"$work/postgres.log" 2>&1 &
    server=$!
    export DATABASE_URL="postgresql:///postgres?host=$cluster&user=postgres&sslmode=disable"
    for _ in $(seq 100); do
        "$psql" --dbname="$DATABASE_URL" --command='SELECT' >/dev/null 2>&1 && break
        sleep 0.1
    done
fi

step "the function, run"
node examples/vercel/check.mjs "$function" "$psql"

step "as it should be"
