// Workflows on either side of a Nexus operation.

import { NexusOperationFailure } from '@temporalio/common';
import { CancellationScope, condition, createNexusServiceClient, isCancellation, sleep } from '@temporalio/workflow';
import { greetings } from './nexus.js';

/** What the operation `hello` starts. */
export async function hello(name) {
  if (name === 'nobody') await condition(() => false);
  await sleep(10);
  return `Hello, ${name}!`;
}

/** Calls each operation: at once, by a workflow, refused, cancelled. */
export async function calls(endpoint) {
  const client = createNexusServiceClient({ service: greetings, endpoint });
  const limits = { scheduleToCloseTimeout: '20s' };
  const scope = new CancellationScope();
  const echo = await client.executeOperation('echo', 'again', limits);
  const started = await client.startOperation('hello', 'Ada', limits);
  const refused = await client.executeOperation('refuses', 'x', limits).catch((error) => error);
  const cancelled = await scope.run(async () => {
    const handle = await client.startOperation('hello', 'nobody', limits);
    scope.cancel();
    return await handle.result();
  }).catch((error) => isCancellation(error));
  return {
    echo,
    hello: await started.result(),
    token: started.token !== undefined,
    refused: refused instanceof NexusOperationFailure && refused.cause.message,
    cancelled,
  };
}
