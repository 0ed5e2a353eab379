// Node's http; calls by http, fetch, http2 or grpc-js. Arguments: name, port, log, next; for TLS also certificate and key.
const fs = require("node:fs");
const http = require("node:http");
const http2 = require("node:http2");
const https = require("node:https");

const [name, port, logPath, next, cert, key] = process.argv.slice(2);
const { protocol, host } = new URL(next);
const log = fs.openSync(logPath, "a");
const module_ = protocol === "https:" ? https : http;
const agent = new module_.Agent({ keepAlive: true, maxSockets: Infinity });
const byName = next.replace("127.0.0.1", "localhost");
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let made = 0;

function make(served, prefix = "/") {
  const path = `${prefix}${name}-${++made}`;
  fs.writeSync(log, `${served} ${path}\n`);
  return path;
}

function byHttp(served, base = next, own = agent) {
  return new Promise((resolve, reject) => {
    const request = module_.get(base + make(served), { agent: own }, (answer) => answer.resume().on("end", resolve));
    request.on("error", reject);
  });
}

let session;
function byHttp2(served) {
  session = session || http2.connect(next.replace("h2:", "https:").replace("h2c:", "http:"));
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":path": make(served) });
    stream.on("error", reject).on("data", () => {}).on("end", resolve).end();
  });
}

let channel;
function byGrpc(served) {
  const grpc = require("../../../.cache/node/node_modules/@grpc/grpc-js");
  const bytes = (content) => content;
  channel = channel || new grpc.Client(host, grpc.credentials.createInsecure());
  return new Promise((resolve, reject) => {
    const path = make(served, "/chain.Hop/");
    channel.makeUnaryRequest(path, bytes, bytes, Buffer.from("x"), (error) => (error ? reject(error) : resolve()));
  });
}

const call = { "h2:": byHttp2, "h2c:": byHttp2, "grpc:": byGrpc }[protocol] || byHttp;

const ways = {
  fan: (path) => Promise.all([call(path), call(path), call(path)]),
  async twice(path) {
    await call(path);
    await call(path);
  },
  async late(path) {
    sleep(5).then(() => call(path));
  },
  async pause(path) {
    await sleep(2);
    await call(path);
  },
  immediate: (path) => new Promise((resolve) => setImmediate(() => resolve(call(path)))),
  async handed(path) {
    await fs.promises.readFile(__filename); // by libuv's threads
    await call(path);
  },
  name: (path) => byHttp(path, byName, new module_.Agent()),
  async fetch(path) {
    await (await fetch(next + make(path))).text();
  },
};

async function answer(request, response) {
  await (ways[request.url.split("/")[1]] || call)(request.url);
  response.setHeader("Content-Length", 2);
  response.end("ok");
}

if (process.env.HOP_BACKGROUND) setInterval(() => call("-"), 10);
const server = cert
  ? https.createServer({ cert: fs.readFileSync(cert), key: fs.readFileSync(key) }, answer)
  : http.createServer(answer);
server.listen(Number(port), "127.0.0.1", 511);
