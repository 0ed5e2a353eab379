// Visits that fail, by the visitor's fault and by the shop's: do errors show where they should?
import { common, duration, rate, thresholds, visitInVain } from './lib/shop.js';

export const options = {
  ...common,
  thresholds,
  scenarios: { errors: { executor: 'constant-arrival-rate', rate, duration, preAllocatedVUs: 10, maxVUs: 10 * rate } },
};

export default visitInVain;
