"""What a task queue decides without I/O: whose turn it is, what it is configured to do, how fast it goes.

- `fair_order`: the order among the fairness keys of a priority level
- `config`: what operators set of a queue: limits, weights of keys
- `rates`: how many of something happen a second

May not live here: tasks, pollers, stores.
"""
