// What the parts agree on: names of task queues, and the shapes of what they send each other.

export const ORDERS_QUEUE = 'nest-orders';
export const PRICES_QUEUE = 'prices';

export interface Order {
  orderId: string;
  item: string;
  quantity: number;
}

export interface Price {
  total_cents: number;
  priced_by: string;
}

export interface Confirmation {
  orderId: string;
  totalCents: number;
  pricedBy: string;
  receipt: string;
}
