// The order's workflow: priced by the Python worker, charged by the Node worker, and confirmed by a person.

import { condition, defineQuery, defineSignal, proxyActivities, setHandler } from '@temporalio/workflow';
import type * as activities from './activities.js';
import { PRICES_QUEUE, type Confirmation, type Order, type Price } from './contract.js';

const { charge } = proxyActivities<typeof activities>({ startToCloseTimeout: '30 seconds' });
const { price } = proxyActivities<{ price(item: string, quantity: number): Promise<Price> }>({
  startToCloseTimeout: '30 seconds',
  taskQueue: PRICES_QUEUE,
});

export const confirmed = defineSignal('confirmed');
export const getStatus = defineQuery<string>('getStatus');

export async function orderWorkflow(order: Order): Promise<Confirmation> {
  let status = 'pricing';
  let isConfirmed = false;
  setHandler(getStatus, () => status);
  setHandler(confirmed, () => {
    isConfirmed = true;
  });
  const { total_cents: totalCents, priced_by: pricedBy } = await price(order.item, order.quantity);
  status = 'waiting for confirmation';
  await condition(() => isConfirmed);
  status = 'charging';
  const receipt = await charge(order, totalCents);
  status = 'done';
  return { orderId: order.orderId, totalCents, pricedBy, receipt };
}
