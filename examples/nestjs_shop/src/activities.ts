// Activities that the Node worker runs. Each may run more than once.

import type { Order } from './contract.js';

export async function charge(order: Order, totalCents: number): Promise<string> {
  return `receipt-${order.orderId}-${totalCents}`;
}
