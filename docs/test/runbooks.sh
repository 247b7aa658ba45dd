# What every page of runbooks/ has: a node with Redis, as its reader has one. Sourced before the page.
give_secrets
redis
cat > clarion.yaml <<END
channel: {without_namespace: {allow_subscribe_for_client: true, history_size: 10, history_ttl: 1m}}
broker: {type: redis, redis: {address: "redis://127.0.0.1:$REDIS_PORT"}}
END
gateway clarion.yaml
clarion gentoken --config clarion.yaml --user 42 > token.txt
export REDIS_URL=redis://127.0.0.1:$REDIS_PORT CLARION_API_KEY=$API_KEY
