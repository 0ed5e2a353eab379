// Node's http2 module, a session for each server, and another one where that has ended.
const fs = require("node:fs");
const http2 = require("node:http2");

const sessions = {};

function sessionOf(origin) {
  if (!sessions[origin] || sessions[origin].closed || sessions[origin].destroyed)
    sessions[origin] = http2.connect(origin).on("error", () => {}); // its requests fail, too
  return sessions[origin];
}

function request(method, url, size) {
  const { origin, pathname } = new URL(url);
  const session = sessionOf(origin);
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":method": method, ":path": pathname }, { endStream: size === 0 });
    stream.on("error", reject).on("data", () => {}).on("end", resolve);
    if (size) stream.end(Buffer.alloc(size));
  });
}

async function main() {
  for (const line of fs.readFileSync(process.argv[2], "utf8").trim().split("\n")) {
    const [method, url, size] = line.split(" ");
    const begun = process.hrtime.bigint();
    try {
      await request(method, url, Number(size));
    } catch (error) {
      console.error(url, error);
      process.exitCode = 1;
    }
    console.log(url, String(process.hrtime.bigint() - begun));
  }
  for (const session of Object.values(sessions)) session.close();
  process.stdin.destroy();
}

console.log("up");
process.stdin.once("data", main);
