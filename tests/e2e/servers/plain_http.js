// Node's http module. Arguments: port; for TLS also certificate and key.
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");

function answer(request, response, begun) {
  const parts = request.url.split("?")[0].slice(1).split("/");
  const wish = {};
  for (let at = 0; at + 1 < parts.length; at += 2) wish[parts[at]] = Number(parts[at + 1]);
  const status = wish.s || 200;
  const body = Buffer.alloc(status === 204 || status === 304 ? 0 : wish.b || 0, "x");
  response.statusCode = status;
  response.setHeader("Clock", `${begun} ${process.hrtime.bigint()}`);
  if (!wish.c && body.length) response.setHeader("Content-Length", body.length);
  if (wish.c && request.method !== "HEAD") {
    for (let at = 0; at < body.length; at += 100) response.write(body.subarray(at, at + 100));
    response.end();
  } else {
    response.end(request.method === "HEAD" ? undefined : body);
  }
}

function serve(request, response) {
  const begun = process.hrtime.bigint();
  const reply = () => answer(request, response, begun);
  const delay = Number((request.url.match(/\/d\/(\d+)/) || [])[1] || 0);
  request.resume();
  request.on("end", () => (delay ? setTimeout(reply, delay) : reply()));
}

if (require.main === module) {
  const [port, cert, key] = process.argv.slice(2);
  const server = cert
    ? https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, serve)
    : http.createServer(serve);
  server.keepAliveTimeout = 60000;
  server.listen(Number(port), "127.0.0.1");
}
module.exports = { serve };
