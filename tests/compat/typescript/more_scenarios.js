// Scenarios of client.js: children, updates, continue-as-new, schedules, Nexus, activities that others complete.

import { randomUUID } from 'node:crypto';
import {
  ScheduleNotFoundError, ScheduleOverlapPolicy, WithStartWorkflowOperation, WorkflowUpdateFailedError, WorkflowUpdateStage,
} from '@temporalio/client';

/** The scenarios, by name. */
export function moreScenarios({ client, connection, taskQueue, start, replays }) {
  const describeAction = (workflowType, ...args) => ({ type: 'startWorkflow', workflowType, args, taskQueue });

  async function until(read, isDone) {
    for (;;) {
      const value = await read();
      if (isDone(value)) return value;
    }
  }

  return {
    async children() {
      const handle = await start('parent');
      const result = await handle.result();
      const left = client.workflow.getHandle(result.left);
      const status = (await left.describe()).status.name;
      await (await start('tells', result.left, 'goodbye')).result();
      return { ...result, left: status, said: await left.result(), replayed: await replays(handle) };
    },
    async updates() {
      const handle = await start('adder', 1);
      const sums = [await handle.executeUpdate('add', { args: [2] }), await handle.executeUpdate('add', { args: [3] })];
      const refused = await handle.executeUpdate('add', { args: [-1] }).catch((error) => error);
      const waiting = await handle.startUpdate('add', {
        args: [1000], updateId: 'waits', waitForStage: WorkflowUpdateStage.ACCEPTED,
      });
      await handle.signal('finish');
      const late = await handle.getUpdateHandle('waits').result();
      const result = await handle.result();
      return {
        sums, result, late, same: (await waiting.result()) === late, replayed: await replays(handle),
        refused: refused instanceof WorkflowUpdateFailedError && refused.cause.message,
      };
    },
    async update_with_start() {
      const operation = () => new WithStartWorkflowOperation('adder', {
        taskQueue, workflowId, args: [10], workflowIdConflictPolicy: 'USE_EXISTING',
      });
      const workflowId = `adder-${randomUUID()}`;
      const sums = [];
      for (const number of [1, 2]) {
        const options = { args: [number], startWorkflowOperation: operation() };
        sums.push(await client.workflow.executeUpdateWithStart('add', options));
      }
      const handle = client.workflow.getHandle(workflowId);
      await handle.signal('finish');
      return { sums, result: await handle.result(), replayed: await replays(handle) };
    },
    async continue_as_new() {
      const handle = await start('counts_down', 3);
      const result = await handle.result();
      const last = await client.workflow.getHandle(handle.workflowId).describe();
      const first = await client.workflow.getHandle(handle.workflowId, handle.firstExecutionRunId).describe();
      return { ...result, memo: last.memo, first: first.status.name, other: last.runId !== first.runId };
    },
    async async_completion() {
      const handle = await start('waits_for_token');
      const description = await until(() => handle.describe(), (found) => found.raw.pendingActivities?.length > 0
        && found.raw.pendingActivities[0].heartbeatDetails != null);
      const [{ activityId }] = description.raw.pendingActivities;
      await client.activity.complete({ workflowId: handle.workflowId, activityId }, 'done elsewhere');
      return { result: await handle.result(), replayed: await replays(handle) };
    },
    async schedule() {
      const scheduleId = `schedule-${randomUUID()}`;
      const handle = await client.schedule.create({
        scheduleId,
        spec: { calendars: [{ hour: 7, dayOfWeek: ['MONDAY'] }], intervals: [{ every: '1h', offset: '5m' }] },
        action: describeAction('adder', 5),
        policies: { overlap: ScheduleOverlapPolicy.BUFFER_ALL, catchupWindow: '1h' },
        memo: { why: 'compatibility' },
        state: { paused: true, note: 'not yet' },
      });
      const created = await handle.describe();
      await handle.unpause('now');
      await handle.trigger();
      const run = await until(() => handle.describe(), (found) => found.info.recentActions.length > 0);
      const [{ action }] = run.info.recentActions;
      await client.workflow.getHandle(action.workflow.workflowId).signal('finish');
      const sum = await client.workflow.getHandle(action.workflow.workflowId).result();
      await handle.update((previous) => ({
        ...previous, spec: { intervals: [{ every: '1 day' }] }, state: { ...previous.state, paused: true, note: 'later' },
      }));
      const updated = await handle.describe();
      const listed = await until(async () => {
        for await (const each of client.schedule.list()) {
          if (each.scheduleId === scheduleId && each.state.paused) return each;
        }
      }, (found) => found !== undefined);
      await handle.delete();
      const gone = await handle.describe().then(() => false, (error) => error instanceof ScheduleNotFoundError);
      return {
        sum,
        created: [created.state, created.memo, created.policies, created.spec.intervals, created.info.nextActionTimes.length],
        ran: [run.state.note, run.info.numActionsTaken],
        updated: [updated.spec.intervals, updated.state.note],
        listed: [listed.memo, listed.state.note],
        gone,
      };
    },
    async nexus() {
      const name = `endpoint-${randomUUID()}`;
      const spec = { name, target: { worker: { namespace: 'default', taskQueue } } };
      const { endpoint } = await connection.operatorService.createNexusEndpoint({ spec });
      const handle = await start('calls', name);
      const result = await handle.result();
      const replayed = await replays(handle);
      await connection.operatorService.deleteNexusEndpoint({ id: endpoint.id, version: endpoint.version });
      return { ...result, replayed };
    },
  };
}
