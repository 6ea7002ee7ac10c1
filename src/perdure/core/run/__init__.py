"""A workflow run as a pure state machine: `(state, input, now) -> (events, state changes, tasks)`.

One module per primitive over a small history core:

    state          the header and the items a run consists of, and how they are encoded
    transition     the history core: event ids, buffering and flush order, what changed
    lifecycle      start, the ways to close, run timeout
    workflow_task  schedule, start, complete, fail, time out; sticky, transient and speculative tasks
    task_events    the events of a workflow task, from a header
    commands       the table from a worker's commands to the primitives
    activity       schedule, start, heartbeat, outcome, retry, the four timeouts, cancellation
    activity_control  pause, unpause, reset, change options of activities
    timer          start, fire, cancel
    pause          pause and unpause of a whole run
    signal         signals and their request ids
    cancellation   the request to cancel the run
    marker         markers (local activities, patches)
    properties     search attribute and memo upserts
    query          questions waiting for a workflow task
    update         updates: those that wait for the workflow's word, and what it says
    deadlines      what is due at a time, over all primitives
    listing        how a run looks in lists
    completion     a worker's answer to a workflow task, over all of the above
    records        what a transition leaves behind, as plain data

What they share: `retry` (policies), `failures` (the server's own, and what is kept of large ones), `attributes` (search
attribute values), `protos` (times and durations), `limits`. What watches them: `invariants`, over the named `rules` in
`state_rules`, `transition_rules` and `history_rules`; and `machines` (tables of the state machines).

Nothing here does I/O or reads a clock, randomness or the environment: times and ids come in as arguments.
"""
