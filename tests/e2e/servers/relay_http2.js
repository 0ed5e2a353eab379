// Serves HTTP/2 by asking somebody else over HTTP/1. Arguments: own port, port of who is asked.
const http = require('http');
const http2 = require('http2');
const [own, other] = process.argv.slice(2).map(Number);
const agent = new http.Agent({ keepAlive: true });

http2.createServer((request, response) => {
  http.get({ host: '127.0.0.1', port: other, path: `/asked${request.url}`, agent }, (answer) => {
    answer.resume();
    answer.on('end', () => response.end('yes'));
  });
}).listen(own, '127.0.0.1', () => console.log('listens'));
