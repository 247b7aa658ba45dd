curl -fsS -X POST "$API_URL/api/publish" -H "X-API-Key: $API_KEY" \
  -d '{"channel":"user#42","data":{"text":"Your order has shipped"}}'
