// The same number of visits each second, however long they take: RATE a second for DURATION.
import { common, duration, rate, thresholds, visit } from './lib/shop.js';

export const options = {
  ...common,
  thresholds,
  scenarios: {
    steady: { executor: 'constant-arrival-rate', rate, duration, preAllocatedVUs: Math.max(10, rate), maxVUs: 10 * rate },
  },
};

export default visit;
