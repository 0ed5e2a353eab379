// Node's fetch.
const fs = require("node:fs");

async function main() {
  for (const line of fs.readFileSync(process.argv[2], "utf8").trim().split("\n")) {
    const [method, url, size, kind] = line.split(" ");
    const options = { method, redirect: "manual" };
    const body = new Uint8Array(Number(size));
    if (body.length && kind === "chunked") Object.assign(options, { body: new Blob([body]).stream(), duplex: "half" });
    else if (body.length) options.body = body;
    const begun = process.hrtime.bigint();
    try {
      await (await fetch(url, options)).arrayBuffer();
    } catch (error) {
      console.error(url, error);
      process.exitCode = 1;
    }
    console.log(url, String(process.hrtime.bigint() - begun));
  }
  process.stdin.destroy();
}

console.log("up");
process.stdin.once("data", main);
