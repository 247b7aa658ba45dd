#!/bin/sh
# Starts the gateway and the back end of the chat, which share two secrets; Ctrl-C ends both.
set -eu
cd "$(dirname "$0")"
: "${TOKEN_SECRET:?is not set: export TOKEN_SECRET=\$(openssl rand -hex 32)}"
: "${API_KEY:?is not set: export API_KEY=\$(openssl rand -hex 16)}"

CLARION__CLIENT__TOKEN__HMAC_SECRET_KEY=$TOKEN_SECRET CLARION__API__KEYS="[\"$API_KEY\"]" \
    "${CLARION:-clarion}" serve --config clarion.yaml &
gateway=$!
.venv/bin/python server.py &
server=$!
trap 'kill "$gateway" "$server" 2>/dev/null || true' INT TERM EXIT

# Until somebody says so, or one of them ends.
while kill -0 "$gateway" 2>/dev/null && kill -0 "$server" 2>/dev/null; do sleep 1; done
