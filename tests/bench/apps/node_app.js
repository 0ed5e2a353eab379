// Node's http module: a small answer in JSON.
const http = require("node:http");

const server = http.createServer((request, response) => {
  const body = JSON.stringify({ number: Number(request.url.split("/")[2]), name: "a thing" });
  response.writeHead(200, { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body) });
  response.end(body);
});
server.keepAliveTimeout = 60000;
server.listen(Number(process.argv[2]), "127.0.0.1");
