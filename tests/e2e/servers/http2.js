// Node's http2 module, which speaks nothing else here. Arguments: port; for TLS also certificate and key.
const fs = require("node:fs");
const http2 = require("node:http2");
const { serve } = require("./plain_http.js");

const [port, cert, key] = process.argv.slice(2);
const server = cert
  ? http2.createSecureServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, serve)
  : http2.createServer(serve);
server.listen(Number(port), "127.0.0.1");
