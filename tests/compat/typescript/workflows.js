// Workflows of the TypeScript compatibility test. Bundled by the SDK; deterministic code only.

import {
  CancellationScope,
  condition,
  defineQuery,
  defineSignal,
  isCancellation,
  log,
  proxyActivities,
  proxyLocalActivities,
  setHandler,
  sleep,
  uuid4,
} from '@temporalio/workflow';

export * from './messages.js';
export * from './nexus_workflows.js';

const { greet, succeedAtAttempt, heartbeatUntilCancelled } = proxyActivities({
  startToCloseTimeout: '20s',
  heartbeatTimeout: '5s',
  retry: { initialInterval: '50ms', backoffCoefficient: 1 },
});
const local = proxyLocalActivities({ startToCloseTimeout: '20s' });

export const addSignal = defineSignal('add');
export const stopSignal = defineSignal('stop');
export const itemsQuery = defineQuery('items');

/** One activity, and one that is retried. */
export async function activities(name) {
  return { greeting: await greet(name), attempt: await succeedAtAttempt(3), local: await local.greet('local') };
}

/** Timers that fire in the order of their times, one of them cancelled. */
export async function timers(delays) {
  const fired = [];
  const given_up = new CancellationScope();
  const long = given_up.run(() => sleep('1 hour')).catch((error) => {
    if (!isCancellation(error)) throw error;
    fired.push('cancelled');
  });
  await Promise.all(delays.map(async (delay, index) => {
    await sleep(delay);
    fired.push(index);
  }));
  given_up.cancel();
  await long;
  return fired;
}

/** Collects signals until told to stop; answers a query meanwhile and afterwards. */
export async function collector() {
  const items = [];
  let stopped = false;
  setHandler(addSignal, (item) => void items.push(item));
  setHandler(stopSignal, () => void (stopped = true));
  setHandler(itemsQuery, () => items);
  await condition(() => stopped);
  return items;
}

/** A timeout instead of a signal. */
export async function gives_up() {
  return (await condition(() => false, '100ms')) ? 'met' : 'gave up';
}

/** Waits forever; when cancelled, cancels its activity, cleans up, and ends as cancelled. */
export async function cleans_up() {
  try {
    await heartbeatUntilCancelled();
  } catch (error) {
    if (!isCancellation(error)) throw error;
    await CancellationScope.nonCancellable(() => greet('cleanup'));
    log.debug('cleaned up');
    throw error;
  }
  return uuid4();
}
