// A Nexus service and the workflow that calls it; in the bundle of workflows and in the worker's own process.

import * as nexus from 'nexus-rpc';

export const greetings = nexus.service('greetings', {
  echo: nexus.operation(),
  hello: nexus.operation(),
  refuses: nexus.operation(),
});
