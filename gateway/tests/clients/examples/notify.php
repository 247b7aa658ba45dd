<?php
$request = stream_context_create(['http' => [
    'method' => 'POST',
    'header' => ['Content-Type: application/json', 'X-API-Key: ' . getenv('API_KEY')],
    'content' => json_encode(['channel' => 'user#42', 'data' => ['text' => 'Your order has shipped']]),
    'timeout' => 5,
]]);
$reply = json_decode(file_get_contents(getenv('API_URL') . '/api/publish', false, $request), true);
if (!isset($reply['result'])) {
    throw new RuntimeException('not published: ' . ($reply['error']['message'] ?? 'no answer'));
}
