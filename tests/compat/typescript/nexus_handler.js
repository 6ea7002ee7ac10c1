// The handlers of the Nexus service, run by the worker.

import * as nexus from 'nexus-rpc';
import { startWorkflow, WorkflowRunOperationHandler } from '@temporalio/nexus';
import { randomUUID } from 'node:crypto';
import { greetings } from './nexus.js';

export const greetingsHandler = nexus.serviceHandler(greetings, {
  async echo(context, input) {
    return input;
  },
  hello: new WorkflowRunOperationHandler((context, name) =>
    startWorkflow(context, 'hello', { args: [name], workflowId: `hello-${randomUUID()}` })),
  async refuses() {
    throw new nexus.OperationError('failed', 'not today');
  },
});
