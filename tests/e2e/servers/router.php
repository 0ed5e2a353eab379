<?php
// PHP's built-in server: closes each connection after its answer, and has no chunks of its own.
$begun = hrtime(true);
$parts = explode("/", trim(explode("?", $_SERVER["REQUEST_URI"])[0], "/"));
$wish = ["s" => 200, "d" => 0, "b" => 0, "c" => 0];
for ($at = 0; $at + 1 < count($parts); $at += 2) $wish[$parts[$at]] = (int)$parts[$at + 1];
stream_get_contents(fopen("php://input", "rb"));
usleep($wish["d"] * 1000);
http_response_code($wish["s"]);
header("Clock: $begun " . hrtime(true));
if ($wish["s"] == 204 || $wish["s"] == 304) return;
if (!$wish["c"]) header("Content-Length: " . $wish["b"]);
else header("Transfer-Encoding: chunked");
if ($_SERVER["REQUEST_METHOD"] == "HEAD") return;
$body = str_repeat("x", $wish["b"]);
if (!$wish["c"]) {
    echo $body;
    return;
}
for ($at = 0; $at < $wish["b"]; $at += 100) {
    $piece = substr($body, $at, 100);
    echo dechex(strlen($piece)), "\r\n", $piece, "\r\n";
    flush();
}
echo "0\r\n\r\n";
