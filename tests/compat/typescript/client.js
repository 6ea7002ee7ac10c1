// node client.js ADDRESS QUEUE BUNDLE: runs each scenario against a running worker, prints one JSON line for each.

import { randomUUID } from 'node:crypto';
import { Client, Connection, QueryNotRegisteredError, WorkflowFailedError } from '@temporalio/client';
import { CancelledFailure, TerminatedFailure } from '@temporalio/common';
import { Worker } from '@temporalio/worker';
import { moreScenarios } from './more_scenarios.js';

const [address, taskQueue, codePath] = process.argv.slice(2);
const connection = await Connection.connect({ address });
const client = new Client({ connection });

const start = (type, ...args) =>
  client.workflow.start(type, { taskQueue, args, workflowId: `${type}-${randomUUID()}` });

async function eventTypes(handle) {
  const history = await handle.fetchHistory();
  return history.events.map((event) => event.eventType);
}

async function replays(handle) {
  await Worker.runReplayHistory({ workflowBundle: { codePath } }, await handle.fetchHistory(), handle.workflowId);
  return true;
}

async function failureOf(promise) {
  try {
    return { result: await promise };
  } catch (error) {
    if (!(error instanceof WorkflowFailedError)) throw error;
    return error.cause;
  }
}

const scenarios = {
  async activity() {
    const handle = await start('activities', 'Ada');
    return { result: await handle.result(), replayed: await replays(handle) };
  },
  async timer() {
    const handle = await start('timers', [600, 100, 300]);
    return { result: await handle.result(), replayed: await replays(handle) };
  },
  async condition_timeout() {
    return { result: await (await start('gives_up')).result() };
  },
  async signal_and_query() {
    const handle = await start('collector');
    const seen = [];
    for (const item of ['one', 'two', 'three']) {
      await handle.signal('add', item);
      seen.push((await handle.query('items')).length);
    }
    const unknown = await handle.query('nowhere').then(() => null, (error) => error instanceof QueryNotRegisteredError);
    await handle.signal('stop');
    const result = await handle.result();
    return { result, seen, unknown, afterwards: await handle.query('items'), replayed: await replays(handle) };
  },
  async signal_with_start() {
    const workflowId = `collector-${randomUUID()}`;
    const options = { taskQueue, workflowId, signal: 'add' };
    const first = await client.workflow.signalWithStart('collector', { ...options, signalArgs: ['first'] });
    const second = await client.workflow.signalWithStart('collector', { ...options, signalArgs: ['second'] });
    await first.signal('stop');
    return { result: await first.result(), same_run: first.signaledRunId === second.signaledRunId };
  },
  async cancel() {
    const handle = await start('cleans_up');
    while ((await handle.describe()).raw.pendingActivities?.[0]?.lastHeartbeatTime == null);
    await handle.cancel();
    const cause = await failureOf(handle.result());
    const types = await eventTypes(handle);
    const description = await handle.describe();
    return { cancelled: cause instanceof CancelledFailure, status: description.status.name, events: types.length };
  },
  async terminate() {
    const handle = await start('collector');
    await handle.terminate('enough');
    const cause = await failureOf(handle.result());
    return { terminated: cause instanceof TerminatedFailure, message: cause.message };
  },
  async list() {
    const handle = await start('gives_up');
    await handle.result();
    for (;;) {
      for await (const each of client.workflow.list({ query: `WorkflowId = '${handle.workflowId}'` })) {
        if (each.status.name === 'COMPLETED') return { type: each.type, queue: each.taskQueue === taskQueue };
      }
    }
  },
  ...moreScenarios({ client, connection, taskQueue, start, replays }),
};

const LIMIT_MS = 60_000;

/** The scenario's value; one that hangs fails, so that the others still run. */
async function within(limit, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done within ${limit} ms`)), limit);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

for (const [name, scenario] of Object.entries(scenarios)) {
  let line;
  try {
    line = { name, ok: true, value: await within(LIMIT_MS, scenario()) };
  } catch (error) {
    line = { name, ok: false, error: String(error?.stack ?? error) };
  }
  console.log(JSON.stringify(line));
}
await connection.close();
