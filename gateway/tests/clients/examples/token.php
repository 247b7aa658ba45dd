<?php
function encode(string $part): string
{
    return rtrim(strtr(base64_encode($part), '+/', '-_'), '=');
}

$header = encode(json_encode(['alg' => 'HS256', 'typ' => 'JWT']));
$claims = encode(json_encode(['sub' => '42', 'exp' => time() + 3600]));
$signature = hash_hmac('sha256', "$header.$claims", getenv('TOKEN_SECRET'), true);
echo "$header.$claims.", encode($signature), "\n";
