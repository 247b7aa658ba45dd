import base64, hashlib, hmac, json, os, time

def encode(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()

header = encode(json.dumps({"alg": "HS256", "typ": "JWT"}).encode())
claims = encode(json.dumps({"sub": "42", "exp": int(time.time()) + 3600}).encode())
signature = hmac.digest(os.environ["TOKEN_SECRET"].encode(), f"{header}.{claims}".encode(), hashlib.sha256)
print(f"{header}.{claims}.{encode(signature)}")
