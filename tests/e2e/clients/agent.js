// Node's own http and https, with agents that keep connections; bodies in two writes.
const fs = require("node:fs");
const http = require("node:http");
const https = require("node:https");

const agents = { "http:": new http.Agent({ keepAlive: true }), "https:": new https.Agent({ keepAlive: true }) };
const lines = fs.readFileSync(process.argv[2], "utf8").trim().split("\n");
let failed = 0;

function ask(method, url, size, kind) {
  return new Promise((done, fail) => {
    const { protocol } = new URL(url);
    const headers = size && kind === "length" ? { "Content-Length": size } : {};
    const request = (protocol === "http:" ? http : https).request(url, { method, headers, agent: agents[protocol] });
    request.setTimeout(20000, () => request.destroy(new Error("timeout")));
    request.on("error", fail).on("response", (response) => {
      response.on("error", fail).on("end", done).resume();
    });
    // each write is a chunk, whose size, line end and data are buffers of their own
    if (size) request.write(Buffer.alloc(size >> 1));
    if (size) request.write(Buffer.alloc(size - (size >> 1)));
    request.end();
  });
}

async function main() {
  for (const line of lines) {
    const [method, url, size, kind] = line.split(" ");
    const begun = process.hrtime.bigint();
    try {
      await ask(method, url, Number(size), kind);
    } catch (error) {
      console.error(url, String(error));
      failed = 1;
    }
    console.log(url, String(process.hrtime.bigint() - begun));
  }
  process.exit(failed);
}

console.log("up");
process.stdin.once("data", main);
