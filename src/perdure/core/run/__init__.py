"""A workflow run as a pure state machine: `(state, input, now) -> (events, state changes, tasks)`.

One module per primitive over a small history core:

    state          the header and the items a run consists of; `items`: how those are named and encoded
    transition     the history core: event ids, buffering and flush order, what changed (of items: `overlay`)
    records        what a transition leaves behind, as plain data
    lifecycle      start, the ways to close, run timeout
    chain          what follows a run: continue-as-new, retry, `cron`
    workflow_task  schedule, start, complete, fail, time out; sticky, transient and speculative tasks
    task_events    the events of a workflow task, from a header
    commands       the table from a worker's commands to the primitives
    completion     a worker's answer to a workflow task, over all primitives
    activity       schedule, start, heartbeat, outcome, retry, the four timeouts, cancellation
    activity_control  pause, unpause, reset, change options of activities
    timer          start, fire, cancel
    child          child workflows, on the parent's side
    external       signals and requests to cancel that go to other workflows
    nexus_operation   Nexus operations: schedule, retry, start, outcome, cancellation
    callback       who is to be told how a run or an update ends
    effects        what a run has yet to do to others
    signal         signals and their request ids
    cancellation   the request to cancel the run
    update         updates: those that wait for the workflow's word, and what it says
    query          questions waiting for a workflow task
    marker         markers (local activities, patches)
    properties     search attribute and memo upserts
    pause          pause and unpause of a whole run
    options        options that change while a run is open; `versioning`, `priorities`: two of them
    problems       workflow tasks that fail in a row, as a search attribute
    deadlines      what is due at a time, over all primitives
    listing        how a run looks in lists
    reset          a run that begins with a copy of another's history; `rebuild`: the state that leads to

What they share, also with runs of other kinds: `attempts` of activities, `nexus_attempts`, `retry` (policies). And:
`failures` (the server's own, and what is kept of large ones), `attributes` (search attribute values), `ids` (made from
what is there), `protos` (times and durations), `limits`. What watches them: `invariants`, over the named `rules` in
`state_rules`, `transition_rules` and `history_rules`; and `machines` (tables of the state machines).

Nothing here does I/O or reads a clock, randomness or the environment: times and ids come in as arguments.
"""
