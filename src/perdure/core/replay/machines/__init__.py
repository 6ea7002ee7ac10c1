"""One state machine per primitive: from an instruction to its command, from history's events to the job that answers.

`base.py` says what every machine can do; `ledger.py` (one level up) is what they write into. A machine never looks at
another one, and none of them knows in which workflow task it lives.
"""
