# What the shell of every page knows. Sourced by bash; not shown to readers.

# What stands in for /run/secrets and /etc/clarion is in the directory of the page.
export TOKEN_SECRET API_KEY
TOKEN_SECRET=$(openssl rand -hex 32)
API_KEY=$(openssl rand -hex 16)
printf %s "$TOKEN_SECRET" > secrets/clarion-token
printf %s "$API_KEY" > secrets/clarion-api
for name in clarion-redis shop office; do openssl rand -hex 16 > "secrets/$name"; done

# Gives every node of the page the secrets that its configuration leaves out.
give_secrets() {
    export CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY=$TOKEN_SECRET CLARION__API__KEYS="[\"$API_KEY\"]"
}

# Runs a script to its end and answers with the code of what failed first in it, which is then in the file .failed.
step() {
    first=0
    rm -f .failed
    trap 'code=$?; if [ "$first" = 0 ]; then first=$code; echo "$BASH_COMMAND" > .failed; fi' ERR
    set -E
    . "$1"
    last=$?
    trap - ERR
    set +E
    [ "$first" != 0 ] || return "$last"
    return "$first"
}

# Asks a command again until it succeeds.
until_true() {
    for _ in $(seq 200); do
        if "$@"; then return 0; fi
        sleep 0.1
    done
    echo "never true: $*"
    return 1
}

# Ends everything that runs on in the background, at once: a drain is not what these pages wait for.
stop() {
    for job in $(jobs -p); do
        # A script that goes on is a shell with what it runs.
        children=$(cat "/proc/$job/task/$job/children")
        kill -KILL ${children:-"$job"} || true
    done 2> /dev/null
    wait
}

# Starts a node with the file of that name and waits until it is ready.
gateway() {
    clarion serve --config "$1" > gateway.log 2>&1 &
    until_true clarion health --ready > health.log 2>&1 || { cat gateway.log; return 1; }
}

# Starts a Redis of the page's own.
redis() {
    redis-server --bind 127.0.0.1 --port "$REDIS_PORT" --save '' "$@" > redis.log 2>&1 &
    until_true redis-cli -p "$REDIS_PORT" ping > /dev/null
}

# Opens a page in Chromium until the expression of JavaScript is true there.
browse() {
    node "$DOCS_TEST/browse.mjs" "$@"
}

# Checks a configuration that a page shows. What it leaves out of secrets, because that is not its point, is given here.
checkconfig_of_page() {
    (
        export CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY=$TOKEN_SECRET
        if grep -Eq '(hmac_secret_key|pem)(_file)?: *[^ #]' "$1"; then unset CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY; fi
        clarion checkconfig --config "$1"
    )
}

# Speaks a conversation that a page shows over the bare WebSocket.
talk() {
    node "$DOCS_TEST/talk.mjs" "$@"
}
