// Workflows that are talked to while they run: updates, children, continue-as-new.

import {
  ApplicationFailure,
  ChildWorkflowFailure,
  CancellationScope,
  condition,
  continueAsNew,
  defineQuery,
  defineSignal,
  defineUpdate,
  executeChild,
  getExternalWorkflowHandle,
  isCancellation,
  ParentClosePolicy,
  patched,
  proxyActivities,
  setHandler,
  startChild,
  upsertMemo,
  workflowInfo,
} from '@temporalio/workflow';

const { waitsForItsToken } = proxyActivities({ startToCloseTimeout: '20s' });

export const addUpdate = defineUpdate('add');
export const finishSignal = defineSignal('finish');
export const sumQuery = defineQuery('sum');

/** Adds what updates bring and a validator lets in, until told to finish. */
export async function adder(sum) {
  let finished = false;
  setHandler(
    addUpdate,
    async (number) => {
      await condition(() => number < 100 || finished);
      sum += number;
      return sum;
    },
    { validator: (number) => { if (number <= 0) throw new Error(`not positive: ${number}`); } },
  );
  setHandler(finishSignal, () => void (finished = true));
  setHandler(sumQuery, () => sum);
  await condition(() => finished);
  await condition(() => sum >= 0);
  return sum;
}

/** Waits for a word, or fails, or is cancelled. */
export async function child(how) {
  if (how === 'fails') throw ApplicationFailure.nonRetryable('child gave up', 'GaveUp');
  let word;
  setHandler(defineSignal('word'), (given) => void (word = given));
  await condition(() => word !== undefined);
  return `${how} ${word}`;
}

/** Children with every outcome; one outlives its parent. */
export async function parent() {
  const options = { parentClosePolicy: ParentClosePolicy.TERMINATE };
  const told = await startChild(child, { ...options, args: ['told'], workflowId: `${workflowInfo().workflowId}-told` });
  await told.signal('word', 'hello');
  const failure = await executeChild(child, { ...options, args: ['fails'] }).catch((error) => error);
  const scope = new CancellationScope();
  const cancelled = await scope.run(async () => {
    await startChild(child, { ...options, args: ['cancelled'] }).then((handle) => {
      scope.cancel();
      return handle.result();
    });
  }).catch((error) => isCancellation(error));
  const left = await startChild(child, { parentClosePolicy: ParentClosePolicy.ABANDON, args: ['left'] });
  return {
    told: await told.result(),
    failed: failure instanceof ChildWorkflowFailure && failure.cause.type === 'GaveUp',
    cancelled,
    left: left.workflowId,
  };
}

/** Signals another workflow, which this one knows by its id alone. */
export async function tells(workflowId, word) {
  await getExternalWorkflowHandle(workflowId).signal('word', word);
}

/** Goes on in a new run until the number is reached; the memo tells how far it came. */
export async function counts_down(number) {
  upsertMemo({ left: number });
  if (number > 0) await continueAsNew(number - 1);
  return { patched: patched('a patch'), continued: workflowInfo().continuedFromExecutionRunId !== undefined };
}

/** An activity that somebody else completes. */
export async function waits_for_token() {
  return await waitsForItsToken();
}
