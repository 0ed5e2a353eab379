// What a visitor of the shop does, and where the shop is. Every script of this folder is one way of visiting.
//
//   HTTP_URL, HTTPS_URL   its front door; one that is empty is not visited
//   GRPC_ADDRESS          host:port of the ratings service, which is not visited if this is empty
//   PROTO                 folder of ratings.proto
import { check } from 'k6';
import exec from 'k6/execution';
import grpc from 'k6/net/grpc';
import http from 'k6/http';

const doors = [__ENV.HTTP_URL, __ENV.HTTPS_URL].filter(Boolean);
const grpcAddress = __ENV.GRPC_ADDRESS || '';
const client = new grpc.Client();
if (grpcAddress) client.load([__ENV.PROTO || '../examples/python-ratings'], 'ratings.proto');
if (!doors.length && !grpcAddress) throw new Error('set HTTP_URL, HTTPS_URL or GRPC_ADDRESS');

export const rate = Number(__ENV.RATE || 50); // visits a second
export const duration = __ENV.DURATION || '1m';

// What every scenario has in common: the run fails if a threshold is crossed. The shop's slow route takes up to 0.3 s.
export const common = {
  insecureSkipTLSVerify: true, // the demo's certificate is signed by nobody
  discardResponseBodies: true,
  summaryTrendStats: ['avg', 'min', 'med', 'max', 'p(90)', 'p(95)', 'p(99)', 'count'],
  systemTags: ['proto', 'status', 'method', 'name', 'scenario', 'expected_response', 'error_code'],
};
export const thresholds = {
  checks: ['rate>0.99'],
  dropped_iterations: ['count<10'],
  ...(doors.length && { http_req_duration: ['p(95)<1000'] }),
  ...(grpcAddress && { grpc_req_duration: ['p(95)<1000'] }),
};

const identity = () => Math.floor(Math.random() * 1e5);

// share, method, path, body, name for k6's own statistics, statuses that are all right
const visits = [
  [0.5, 'GET', () => `/products/${identity()}`, null, '/products/*', [200, 502]], // one in a hundred prices is not to be had
  [0.2, 'GET', () => `/static/theme-${identity()}.css`, null, '/static/*', [200]],
  [0.15, 'GET', () => `/users/${identity()}/orders`, null, '/users/*/orders', [200]],
  [0.1, 'GET', () => `/search?q=${identity()}`, null, '/search', [200]],
  [0.05, 'POST', () => '/orders', 'x'.repeat(500), '/orders', [201, 500]], // one in ten payments fails
];
const wrong = [
  [0.5, 'POST', () => '/orders', 'x'.repeat(500), '/orders', [201, 500]],
  [0.5, 'GET', () => `/no/such/page/${identity()}`, null, '/no/such/page/*', [404]],
];

function request(list) {
  let dice = Math.random();
  const found = list.find(([share]) => (dice -= share) < 0) || list[0];
  const [, method, path, body, name, right] = found;
  const door = doors[exec.scenario.iterationInTest % doors.length];
  const response = http.request(method, door + path(), body, {
    tags: { name },
    responseCallback: http.expectedStatuses(...right),
  });
  check(response, { 'answered as expected': (r) => right.includes(r.status) });
}

let connected = false; // each visitor has variables, and a connection, of its own

function call() {
  if (!connected) client.connect(grpcAddress, { plaintext: true });
  connected = true;
  const response = client.invoke('shop.Ratings/Get', { id: String(identity()) });
  const right = [grpc.StatusOK, grpc.StatusNotFound, grpc.StatusUnavailable]; // some are unlucky, some too busy
  check(response, { 'called as expected': (r) => right.includes(r.status) });
}

// One visit, by HTTP, HTTPS or gRPC in turn.
export function visit() {
  if (grpcAddress && (!doors.length || exec.scenario.iterationInTest % 4 === 3)) call();
  else request(visits);
}

export function visitInVain() {
  request(wrong);
}
