// Does it work at all? A few visitors, a few seconds: k6 run -e HTTP_URL=http://127.0.0.1:8080 k6/smoke.js
import { common, thresholds, visit } from './lib/shop.js';

export const options = {
  ...common,
  thresholds: { ...thresholds, checks: ['rate==1'] },
  scenarios: { smoke: { executor: 'per-vu-iterations', vus: 4, iterations: Number(__ENV.ITERATIONS || 25) } },
};

export default visit;
