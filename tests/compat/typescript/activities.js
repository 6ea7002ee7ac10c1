// Activities of the TypeScript compatibility test.

import { ApplicationFailure } from '@temporalio/common';
import { CompleteAsyncError, Context } from '@temporalio/activity';

export async function greet(name) {
  return `Hello, ${name}!`;
}

export async function succeedAtAttempt(attempt) {
  const { info } = Context.current();
  if (info.attempt < attempt) throw ApplicationFailure.retryable(`not at attempt ${info.attempt}`, 'TooEarly');
  return info.attempt;
}

export async function heartbeatUntilCancelled() {
  const context = Context.current();
  const timer = setInterval(() => context.heartbeat('alive'), 50);
  try {
    await context.cancelled; // rejects when the cancellation arrives with a heartbeat
  } finally {
    clearInterval(timer);
  }
}

export async function waitsForItsToken() {
  Context.current().heartbeat('waiting');
  throw new CompleteAsyncError();
}
