#!/usr/bin/env bash
# Holds the server to its own OpenAPI document from outside: `openapi-spec-validator` reads the document, and `schemathesis` makes requests of
# it, right and wrong ones, and looks whether the answers are those that are announced. Both are installed from PyPI into a temporary
# directory. It needs Rust, Python, curl, and the programs of a PostgreSQL, of which it starts a throwaway server; nothing leaves this machine
# once they are installed. The first argument is how many requests are made up for each operation in each way, 40 without one.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
chmod 755 "$work"
pids=()
finish() {
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

echo "== installing openapi-spec-validator and schemathesis"
python3 -m venv "$work/python"
"$work/python/bin/pip" install -q 'openapi-spec-validator>=0.9,<0.10' 'schemathesis>=4.32,<5'

echo "== building the server"
cargo build -q --locked -p loop-http --no-default-features --features docs
server=${CARGO_TARGET_DIR:-target}/debug/loop-http

echo "== starting a PostgreSQL and the server"
bin=$(dirname "$(readlink -f "$(command -v initdb || ls -d /usr/lib/postgresql/*/bin/initdb | tail -1)")")
as=()
mkdir "$work/pg"
if [ "$(id -u)" = 0 ]; then
    chown postgres "$work/pg"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
port=$(free_port)
(cd "$work/pg" && "${as[@]}" "$bin/initdb" -D "$work/pg/data" -U postgres -A trust --no-sync >/dev/null)
(cd "$work/pg" && exec "${as[@]}" "$bin/postgres" -D data -k "$work/pg" -p "$port" -c listen_addresses=127.0.0.1 2>"$work/pg/log") &
pids+=($!)
for _ in $(seq 100); do "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" && break; sleep 0.1; done
export DATABASE_URL="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable" LOOP_LOG=warn
export LOOP_ADMIN_SECRET=try-loop GITHUB_WEBHOOK_SECRET=try-loop SENTRY_CLIENT_SECRET=try-loop POSTHOG_WEBHOOK_SECRET=try-loop
"$server" migrate >/dev/null
LOOP_KEY=$("$server" keys create --name 'the one that is used' --role admin 2>/dev/null)
other=$("$server" keys create --name 'the one that is rotated' --role write 2>&1 >/dev/null | sed 's/^created \([a-z0-9]*\) .*/\1/')
PORT=$(free_port)
export LOOP_KEY PORT
"$server" 2>"$work/server.log" &
pids+=($!)
url=http://127.0.0.1:$PORT
for _ in $(seq 100); do curl -s -o "$work/none" "$url/health" && break; sleep 0.1; done
project=$(curl -s "$url/api/v1/projects" -H "Authorization: Bearer $LOOP_KEY" --json '{"name": "the one that webhooks are for"}' |
    sed 's/^{"id":"\([a-z0-9]*\)".*/\1/')

echo "== reading the document"
curl -s "$url/openapi.json" >"$work/openapi.json"
"$work/python/bin/openapi-spec-validator" "$work/openapi.json"

# Whoever asks is known by a key, but for webhooks, which are signed. No key but one of its own is rotated or revoked.
cat >"$work/schemathesis.toml" <<TOML
[generation]
with-security-parameters = false

[checks]
# In its place is a check of our own, which knows the rules that a schema cannot say.
positive_data_acceptance.enabled = false

[[operations]]
include-operation-id = ["rotateKey", "revokeKey"]
parameters = { "path.id" = "$other" }

[[operations]]
include-path-regex = "^/webhooks/"
parameters = { "query.project" = "$project" }
TOML
cat >"$work/hooks.py" <<'PY'
import hashlib, hmac, os, sys
import schemathesis
from requests.auth import AuthBase
from schemathesis.generation import GenerationMode

# Hypothesis parses its own source from deep within, which Python 3.11 takes amiss.
sys.setrecursionlimit(10_000)

# What is wrong with a request that its schema allows.
RULES = ("Was used for another request", "Refers to something that does not exist", "Must be in the future", "Cannot be given together with cursor",
         "Must not contain NUL characters")

class Known(AuthBase):
    def __call__(self, request):
        body = request.body or b""
        body = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else b""
        signature = hmac.new(b"try-loop", body, hashlib.sha256).hexdigest()
        path = request.path_url
        if path.startswith("/api/"):
            request.headers["Authorization"] = f"Bearer {os.environ['LOOP_KEY']}"
        elif path.startswith("/admin/"):
            request.headers["Authorization"] = "Bearer try-loop"
        elif path.startswith("/webhooks/github"):
            request.headers["X-Hub-Signature-256"] = f"sha256={signature}"
        elif path.startswith("/webhooks/sentry"):
            request.headers["Sentry-Hook-Signature"] = signature
        elif path.startswith("/webhooks/posthog"):
            request.headers["X-PostHog-Secret"] = "try-loop"
        return request

schemathesis.auth.set_from_requests(Known())

@schemathesis.check
def what_is_right_is_taken(ctx, response, case):
    # What is in a delivery is the provider's.
    if case.path.startswith("/webhooks/"):
        return
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE or response.status_code not in (400, 413, 415, 422):
        return
    answer = response.json()
    reasons = [reason for reasons in answer.get("details", {}).get("fieldErrors", {}).values() for reason in reasons]
    known = answer["code"] in ("malformed_cursor", "malformed_if_match") or (reasons and all(reason.startswith(RULES) for reason in reasons))
    assert known, f"{response.status_code}: {answer}"
PY

echo "== making requests of it"
status=0
SCHEMATHESIS_HOOKS="$work/hooks.py" "$work/python/bin/schemathesis" --config-file "$work/schemathesis.toml" run "$url/openapi.json" \
    --phases coverage,fuzzing,stateful --max-examples "${1:-40}" --workers 2 --continue-on-failure --no-color \
    --generation-database none --report ndjson --report-ndjson-path "$work/report.ndjson" || status=$?

echo "== what was answered"
"$work/python/bin/python" - "$work/report.ndjson" <<'PY'
import collections, json, sys
answers, checks = collections.Counter(), collections.Counter()
for line in open(sys.argv[1]):
    recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
    for interaction in recorder.get("interactions", {}).values():
        answers[(interaction.get("response") or {}).get("status_code", "none")] += 1
    for found in recorder.get("checks", {}).values():
        checks.update(f'{check["name"]}: {check["status"]}' for check in found)
print(answers.total(), "answers:", ", ".join(f"{count} of {status}" for status, count in sorted(answers.items(), key=str)))
print(checks.total(), "checks:")
for name, count in sorted(checks.items()):
    print(f"  {count:6} {name}")
# What is mostly refused for asking too much has hardly been tried.
assert answers[429] * 20 < answers.total(), "too many answers are 429"
PY
if grep ERROR "$work/server.log"; then
    echo "the server logged errors"
    status=1
fi
exit "$status"
