import json, os, urllib.request

request = urllib.request.Request(
    os.environ["API_URL"] + "/api/publish",
    data=json.dumps({"channel": "user#42", "data": {"text": "Your order has shipped"}}).encode(),
    headers={"Content-Type": "application/json", "X-API-Key": os.environ["API_KEY"]},
)
with urllib.request.urlopen(request, timeout=5) as response:
    reply = json.load(response)
if "error" in reply:
    raise SystemExit(f"not published: {reply['error']['message']}")
