// node worker.js ADDRESS QUEUE BUNDLE: bundles the workflows into BUNDLE, prints "ready", works until killed.

import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, NativeConnection, Worker } from '@temporalio/worker';
import * as activities from './activities.js';
import { greetingsHandler } from './nexus_handler.js';

const [address, taskQueue, codePath] = process.argv.slice(2);
const workflowsPath = fileURLToPath(new URL('./workflows.js', import.meta.url));
const { code } = await bundleWorkflowCode({ workflowsPath });
await writeFile(codePath, code);
const connection = await NativeConnection.connect({ address });
const worker = await Worker.create({
  connection, taskQueue, workflowBundle: { codePath }, activities, nexusServices: [greetingsHandler],
});
const running = worker.run();
console.log('ready');
await running;
