// Orders over HTTP. The controller knows routes, the service knows workflows.

import {
  BadRequestException, Body, Controller, Get, HttpCode, Inject, Injectable, NotFoundException, Param, Post,
  type OnApplicationShutdown,
} from '@nestjs/common';
import {
  Client, Connection, WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError,
} from '@temporalio/client';
import { ADDRESS } from './address.js';
import { ORDERS_QUEUE, type Confirmation, type Order } from './contract.js';
import { confirmed, getStatus, orderWorkflow } from './workflows.js';

@Injectable()
export class OrdersService implements OnApplicationShutdown {
  private readonly connection = Connection.lazy({ address: ADDRESS });
  private readonly client = new Client({ connection: this.connection });

  // Placing the same order again is no error: the workflow's id makes it one order.
  async place(order: Order): Promise<void> {
    try {
      const workflowId = `order-${order.orderId}`;
      await this.client.workflow.start(orderWorkflow, {
        args: [order], taskQueue: ORDERS_QUEUE, workflowId, workflowIdReusePolicy: 'REJECT_DUPLICATE',
      });
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
    }
  }

  async status(orderId: string): Promise<string> {
    return await this.find(orderId, (handle) => handle.query(getStatus));
  }

  async confirm(orderId: string): Promise<Confirmation> {
    return await this.find(orderId, async (handle) => {
      await handle.signal(confirmed);
      return await handle.result();
    });
  }

  async onApplicationShutdown(): Promise<void> {
    await this.connection.close();
  }

  private async find<T>(orderId: string, use: (handle: OrderHandle) => Promise<T>): Promise<T> {
    try {
      return await use(this.client.workflow.getHandle<typeof orderWorkflow>(`order-${orderId}`));
    } catch (error) {
      if (error instanceof WorkflowNotFoundError) throw new NotFoundException(`no order ${orderId}`);
      throw error;
    }
  }
}

type OrderHandle = ReturnType<Client['workflow']['getHandle']> & {
  query: (definition: typeof getStatus) => Promise<string>;
  result: () => Promise<Confirmation>;
};

@Controller('orders')
export class OrdersController {
  constructor(@Inject(OrdersService) private readonly orders: OrdersService) {}

  @Post()
  async place(@Body() order: Partial<Order>): Promise<{ orderId: string }> {
    const { orderId, item, quantity } = order;
    if (!orderId || !item || !Number.isInteger(quantity) || Number(quantity) < 1) {
      throw new BadRequestException('orderId, item and quantity (a whole number from 1 on) are needed');
    }
    await this.orders.place({ orderId, item, quantity: Number(quantity) });
    return { orderId };
  }

  @Get(':orderId')
  async show(@Param('orderId') orderId: string): Promise<{ status: string }> {
    return { status: await this.orders.status(orderId) };
  }

  @Post(':orderId/confirmed')
  @HttpCode(200)
  async confirm(@Param('orderId') orderId: string): Promise<Confirmation> {
    return await this.orders.confirm(orderId);
  }
}
