// Prices, in Node without a framework. Asks the stock service whether there is any left.
//
//   [HOST=0.0.0.0] PORT=8082 [STOCK_URL=http://127.0.0.1:8083] node pricing.js

const http = require('http');

const stockUrl = process.env.STOCK_URL;
const agent = new http.Agent({ keepAlive: true });

function answer(response, status, content) {
  const body = JSON.stringify(content);
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body) });
  response.end(body);
}

function price(id, response, stock) {
  if (Math.random() < 0.01) return answer(response, 503, 'busy');
  return answer(response, 200, { id, cents: 100 + (Number(id) % 900), stock });
}

function askStock(id, response) {
  http.get(`${stockUrl}/stock/${id}`, { agent }, (reply) => {
    let text = '';
    reply.on('data', (part) => { text += part; });
    reply.on('end', () => price(id, response, text));
  }).on('error', () => price(id, response, 'unknown')); // prices are known without it
}

http.createServer((request, response) => {
  const [, route, id] = request.url.split('/');
  if (route === 'health') answer(response, 200, 'ok');
  else if (route !== 'prices') answer(response, 404, 'no such page');
  else if (stockUrl) askStock(id, response);
  else price(id, response, 'plenty');
}).listen(Number(process.env.PORT), process.env.HOST || '127.0.0.1');
