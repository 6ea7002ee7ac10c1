// node dist/worker.js: runs the order's workflow and its activities until it is stopped.

import { fileURLToPath } from 'node:url';
import { NativeConnection, Worker } from '@temporalio/worker';
import * as activities from './activities.js';
import { ADDRESS } from './address.js';
import { ORDERS_QUEUE } from './contract.js';

const connection = await NativeConnection.connect({ address: ADDRESS });
const workflowsPath = fileURLToPath(new URL('./workflows.js', import.meta.url));
const worker = await Worker.create({ connection, taskQueue: ORDERS_QUEUE, workflowsPath, activities });
const running = worker.run();
console.log('ready');
await running;
await connection.close();
