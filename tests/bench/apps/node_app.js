// Node's http module: a small answer in JSON. With a certificate and its key as further arguments: https.
const fs = require("node:fs");
const [port, certificate, key] = process.argv.slice(2);
const secret = certificate ? { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) } : {};

const server = require(certificate ? "node:https" : "node:http").createServer(secret, (request, response) => {
  const body = JSON.stringify({ number: Number(request.url.split("/")[2]), name: "a thing" });
  response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  response.end(body);
});
server.keepAliveTimeout = 60000;
server.listen(Number(port), "127.0.0.1");
