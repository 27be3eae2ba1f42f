#!/usr/bin/env bash
# Runs the function under two emulators that are not Loop's own, and prints what it saw: AWS's Runtime Interface Emulator, which comes with
# `aws-sam-cli`, and `cargo lambda watch`. Both are installed from PyPI into a temporary directory. It needs Rust, Python, curl, openssl, and
# the programs of a PostgreSQL, of which it starts a throwaway server; nothing leaves this machine once they are installed.
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

failed=0
# saw <what> <found> <expected>
saw() {
    if [ "$2" = "$3" ]; then printf 'ok    %-72s %s\n' "$1" "$2"; else printf 'WRONG %-72s %s, not %s\n' "$1" "$2" "$3"; failed=1; fi
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
until_answers() { for _ in $(seq 600); do curl -s -o "$work/none" "$1" && return; sleep 0.1; done; echo "nothing answers at $1" >&2; exit 1; }

echo "== installing cargo-lambda and the emulator of aws-sam-cli"
python3 -m venv "$work/python"
"$work/python/bin/pip" install -q cargo-lambda
"$work/python/bin/pip" download -q --no-deps -d "$work" aws-sam-cli
machine=$(uname -m)
[ "$machine" = aarch64 ] && rie=aws-lambda-rie-arm64 || rie=aws-lambda-rie-x86_64
python3 - "$work" "$rie" <<'PY'
import glob, os, sys, zipfile
work, name = sys.argv[1:]
zipfile.ZipFile(glob.glob(f"{work}/aws_sam_cli-*.whl")[0]).extract(f"samcli/local/rapid/{name}", work)
os.rename(f"{work}/samcli/local/rapid/{name}", f"{work}/rie")
os.chmod(f"{work}/rie", 0o755)
PY

echo "== building the function, and loop-http to migrate with"
cargo build -q --locked -p loop-lambda
cargo build -q --locked -p loop-http --no-default-features
target=${CARGO_TARGET_DIR:-target}/debug

if [ -z "${DATABASE_URL:-}" ]; then
    echo "== starting a PostgreSQL"
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
    export DATABASE_URL="postgres://postgres@127.0.0.1:$port/postgres?sslmode=disable"
    for _ in $(seq 100); do "$bin/pg_isready" -q -h 127.0.0.1 -p "$port" && break; sleep 0.1; done
fi
"$target/loop-http" migrate
export GITHUB_WEBHOOK_SECRET=try-loop LOOP_LOG=warn

# What GitHub signs, and each gateway's event of it.
cat >"$work/events.py" <<'PY'
import base64, hashlib, hmac, json, sys, urllib.parse
kind, delivery, variant = sys.argv[1:]
text = json.dumps({"action": "opened", "issue": {"title": "Café"}, "repository": {"full_name": "acme/shop"}}, ensure_ascii=False)
form = variant == "form"
body = ("payload=" + urllib.parse.quote(text) if form else text).encode()
signature = "sha256=" + hmac.new(b"try-loop", body, hashlib.sha256).hexdigest()
if variant == "unsigned":
    signature = "sha256=" + "0" * 64
headers = {"content-type": "application/x-www-form-urlencoded" if form else "application/json", "x-github-event": "issues",
           "x-github-delivery": delivery, "x-hub-signature-256": signature, "host": "loop.example.com"}
path, binary = "/webhooks/github", variant != "text"
event = {"body": base64.b64encode(body).decode() if binary else body.decode(), "isBase64Encoded": binary}
if kind in ("http", "url"):
    stage = "prod" if kind == "http" else "$default"
    raw = ("/prod" if kind == "http" else "") + path
    event |= {"version": "2.0", "routeKey": "$default", "rawPath": raw, "rawQueryString": "", "headers": headers, "requestContext": {
        "accountId": "123456789012", "apiId": "a", "domainName": "a.example.com", "domainPrefix": "a", "requestId": "r", "routeKey": "$default",
        "stage": stage, "time": "10/Mar/2020:05:16:23 +0000", "timeEpoch": 1583817383220,
        "http": {"method": "POST", "path": raw, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl"}}}
elif kind == "rest":
    event |= {"resource": "/{proxy+}", "path": path, "httpMethod": "POST", "headers": headers,
              "multiValueHeaders": {name: [value] for name, value in headers.items()}, "queryStringParameters": None,
              "multiValueQueryStringParameters": None, "pathParameters": {"proxy": path[1:]}, "stageVariables": None,
              "requestContext": {"accountId": "123456789012", "apiId": "a", "resourceId": "r", "resourcePath": "/{proxy+}", "stage": "prod",
                                 "path": "/prod" + path, "protocol": "HTTP/1.1", "requestId": "r", "requestTimeEpoch": 1428582896000,
                                 "httpMethod": "POST", "identity": {"sourceIp": "192.0.2.1", "userAgent": "curl"}}}
else:
    event |= {"requestContext": {"elb": {"targetGroupArn": "arn:aws:elasticloadbalancing:eu-central-1:123456789012:targetgroup/loop/1"}},
              "httpMethod": "POST", "path": path, "queryStringParameters": {},
              "headers": headers | {"x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https"}}
print(json.dumps(event))
PY
status() { python3 -c 'import json, sys; print(json.load(sys.stdin).get("statusCode", "an error of the function"))'; }
# play <emulator> <command that invokes with the event in a file>
play() {
    local kind variant file="$work/event.json"
    for kind in rest http alb url; do
        for variant in text binary form; do
            python3 "$work/events.py" "$kind" "$1-$kind-$variant" "$variant" >"$file"
            saw "$1: $kind, a signed webhook, $variant" "$("$2" "$file" | status)" 201
            saw "$1: $kind, the same again, $variant" "$("$2" "$file" | status)" 200
        done
        python3 "$work/events.py" "$kind" "$1-$kind-unsigned" unsigned >"$file"
        saw "$1: $kind, a wrong signature" "$("$2" "$file" | status)" 401
    done
}

echo "== AWS's Runtime Interface Emulator"
rie_port=$(free_port) api_port=$(free_port)
# It must not be asked for help: it would take that for the function to run.
AWS_LAMBDA_FUNCTION_MEMORY_SIZE=128 "$work/rie" --runtime-interface-emulator-address "127.0.0.1:$rie_port" \
    --runtime-api-address "127.0.0.1:$api_port" "$target/loop-lambda" >"$work/rie.log" 2>&1 &
pids+=($!)
by_rie() { curl -s "http://127.0.0.1:$rie_port/2015-03-31/functions/function/invocations" --data-binary "@$1"; }
until_answers "http://127.0.0.1:$rie_port/"
play rie by_rie
echo '{"Records": []}' >"$work/other.json"
saw "rie: an event of a queue" "$(by_rie "$work/other.json" | status)" "an error of the function"
python3 "$work/events.py" http rie-after text >"$work/event.json"
saw "rie: a webhook after that" "$(by_rie "$work/event.json" | status)" 201

echo "== cargo lambda watch"
watch_port=$(free_port)
CARGO_NET_OFFLINE=true "$work/python/bin/cargo-lambda" lambda watch --ignore-changes -p loop-lambda -A 127.0.0.1 -P "$watch_port" \
    >"$work/watch.log" 2>&1 &
pids+=($!)
until_answers "http://127.0.0.1:$watch_port/"
by_watch() { "$work/python/bin/cargo-lambda" lambda invoke loop-lambda -A 127.0.0.1 -P "$watch_port" --data-file "$1" 2>>"$work/watch.log"; }
play watch by_watch
# Its own gateway makes events of requests.
url="http://127.0.0.1:$watch_port/lambda-url/loop-lambda"
body='{"action":"opened","issue":{"title":"☕"}}'
signature=$(printf %s "$body" | openssl dgst -sha256 -hmac try-loop | sed 's/.* //')
post() { curl -s -o "$work/answer" -w '%{http_code}' "$url/webhooks/github" -H 'Content-Type: application/json' -H 'X-GitHub-Event: issues' "$@"; }
saw "watch: GET /health" "$(curl -s -o "$work/answer" -w '%{http_code}' "$url/health")" 200
saw "watch: a signed webhook" "$(post -H "X-Hub-Signature-256: sha256=$signature" -d "$body")" 201
saw "watch: a changed one" "$(post -H "X-Hub-Signature-256: sha256=$signature" -d "$body ")" 401
head -c 6000000 /dev/zero | tr '\0' x >"$work/large"
saw "watch: one of 6 MB" "$(post -H "X-Hub-Signature-256: sha256=$signature" --data-binary "@$work/large")" 413

[ "$failed" = 0 ] && echo "all as expected" || { tail -20 "$work/rie.log" "$work/watch.log"; exit 1; }
