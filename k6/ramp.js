// More and more visits, up to RATE a second, and fewer again: where does it begin to take longer?
import { common, duration, rate, thresholds, visit } from './lib/shop.js';

export const options = {
  ...common,
  thresholds,
  scenarios: {
    ramp: {
      executor: 'ramping-arrival-rate',
      startRate: 1,
      preAllocatedVUs: Math.max(10, rate),
      maxVUs: 10 * rate,
      stages: [
        { target: rate, duration },
        { target: rate, duration },
        { target: 1, duration },
      ],
    },
  },
};

export default visit;
