// RATE visits a second, then ten times as many at once, then RATE again: what is lost, and does it recover?
import { common, duration, rate, thresholds, visit } from './lib/shop.js';

export const options = {
  ...common,
  thresholds: { ...thresholds, dropped_iterations: [], http_req_duration: ['p(95)<5000'] }, // a spike may be too much
  scenarios: {
    spike: {
      executor: 'ramping-arrival-rate',
      startRate: rate,
      preAllocatedVUs: 10 * rate,
      maxVUs: 20 * rate,
      stages: [
        { target: rate, duration },
        { target: 10 * rate, duration: '1s' },
        { target: 10 * rate, duration },
        { target: rate, duration: '1s' },
        { target: rate, duration },
      ],
    },
  },
};

export default visit;
