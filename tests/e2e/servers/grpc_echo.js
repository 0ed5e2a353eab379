// @grpc/grpc-js with the service of grpc_echo.py. Arguments: port, log; for TLS also certificate and key.
const fs = require("node:fs");
const grpc = require("../../../.cache/node/node_modules/@grpc/grpc-js");

const [port, logPath, cert, key] = process.argv.slice(2);
let log;

function read(message) {
  const path = message.toString("latin1").split(" ")[0];
  const words = path.slice(1).split("/");
  const wish = { path, answers: 1 };
  for (let at = 0; at + 1 < words.length; at += 2) wish[words[at]] = Number(words[at + 1]);
  wish.answer = Buffer.alloc(wish.b || 0, "x");
  return wish;
}

// Calls back with how the call ends: a failure or nothing, and trailers.
function end(method, begun, wish, back) {
  setTimeout(() => {
    const trailers = new grpc.Metadata();
    trailers.set("clock", `${begun} ${process.hrtime.bigint()}`);
    fs.writeSync(log, `${method} ${wish.path} ${wish.s || 0}\n`);
    back(wish.s ? { code: wish.s, details: "as was asked", metadata: trailers } : null, trailers);
  }, wish.d || 0);
}

function endStream(call, failure, trailers) {
  if (failure) call.emit("error", failure);
  else call.end(trailers);
}

const echo = {
  Unary(call, answer) {
    const begun = process.hrtime.bigint();
    const wish = read(call.request);
    end("Unary", begun, wish, (failure, trailers) => answer(failure, wish.answer, trailers));
  },
  Upload(call, answer) {
    const begun = process.hrtime.bigint();
    let wish;
    call.on("data", (message) => (wish = wish || read(message)));
    call.on("end", () => end("Upload", begun, wish, (failure, trailers) => answer(failure, wish.answer, trailers)));
  },
  Download(call) {
    const begun = process.hrtime.bigint();
    const wish = read(call.request);
    end("Download", begun, wish, (failure, trailers) => {
      if (!failure) for (let n = 0; n < (wish.n || 1); n++) call.write(wish.answer);
      endStream(call, failure, trailers);
    });
  },
  Chat(call) {
    const begun = process.hrtime.bigint();
    let wish;
    call.on("data", (message) => {
      wish = wish || read(message);
      call.write(wish.answer);
    });
    call.on("end", () => end("Chat", begun, wish, (failure, trailers) => endStream(call, failure, trailers)));
  },
};

const bytes = (content) => content;
const method = (name, requestStream, responseStream) => ({
  path: `/autoinstr.test.Echo/${name}`,
  requestStream,
  responseStream,
  requestSerialize: bytes,
  requestDeserialize: bytes,
  responseSerialize: bytes,
  responseDeserialize: bytes,
});
const definition = {
  Unary: method("Unary", false, false),
  Upload: method("Upload", true, false),
  Download: method("Download", false, true),
  Chat: method("Chat", true, true),
};
module.exports = { grpc, definition };

if (require.main === module) {
  log = fs.openSync(logPath, "w");
  const server = new grpc.Server();
  server.addService(definition, echo);
  const credentials = cert
    ? grpc.ServerCredentials.createSsl(null, [{ cert_chain: fs.readFileSync(cert), private_key: fs.readFileSync(key) }])
    : grpc.ServerCredentials.createInsecure();
  server.bindAsync(`127.0.0.1:${port}`, credentials, (error) => {
    if (error) throw error;
  });
}
