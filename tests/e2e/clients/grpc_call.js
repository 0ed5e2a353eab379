// @grpc/grpc-js as a client.
const fs = require("node:fs");
const { grpc, definition } = require("../servers/grpc_echo.js");

const Echo = grpc.makeGenericClientConstructor(definition, "autoinstr.test.Echo");
const clients = {};

function clientOf(url) {
  const key = url.protocol + url.host;
  const credentials = () =>
    url.protocol === "grpcs:"
      ? grpc.credentials.createSsl(fs.readFileSync(process.env.SSL_CERT_FILE))
      : grpc.credentials.createInsecure();
  return (clients[key] = clients[key] || new Echo(url.host, credentials()));
}

// The status that the call ended with.
function call(client, method, messages, metadata) {
  return new Promise((resolve) => {
    const { requestStream, responseStream } = definition[method];
    const options = { deadline: Date.now() + 20000 };
    const args = [metadata, options, ...(responseStream ? [] : [() => {}])];
    const made = requestStream ? client[method](...args) : client[method](messages[0], ...args);
    if (requestStream) {
      for (const message of messages) made.write(message);
      made.end();
    }
    if (responseStream) made.on("data", () => {}).on("error", () => {});
    made.on("status", (status) => resolve(status.code));
  });
}

async function main() {
  for (const line of fs.readFileSync(process.argv[2], "utf8").trim().split("\n")) {
    const [method, target, size, , trace] = line.split(" ");
    const url = new URL(target);
    const message = Buffer.from(`${url.pathname} ${"z".repeat(Number(size))}`);
    const streams = method === "Upload" || method === "Chat";
    const metadata = new grpc.Metadata();
    if (trace !== "-") metadata.set("traceparent", trace);
    const begun = process.hrtime.bigint();
    const code = await call(clientOf(url), method, streams ? [message, message, message] : [message], metadata);
    console.log(target, String(process.hrtime.bigint() - begun));
    if (code !== Number(url.pathname.split("/")[2])) {
      console.error(target, code);
      process.exitCode = 1;
    }
  }
  for (const client of Object.values(clients)) client.close();
  process.stdin.destroy();
}

console.log("up");
process.stdin.once("data", main);
