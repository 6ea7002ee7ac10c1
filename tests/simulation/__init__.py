"""A seeded simulator: clients, workers and the real engine on simulated time, network and storage, in one thread.

`python -m tests.simulation --seeds 100` runs seeds; a seed that fails prints how to run it again. What belongs where:

    loop.py, runtime.py, network.py, store.py   the simulated world: scheduler, clock, messages, faulty storage
    server.py, worker.py, client.py             the simulated processes; the server's are the real ones inside
    outside.py                                  addresses that are called back when updates end
    rollout.py                                  workers of two versions, and who sends work to them
    update_with_start.py                        who starts and updates workflows with one request
    crons.py, cron_oracle.py                    chains of runs with a cron schedule
    limits.py, limit_oracle.py                  a task queue with a rate limit
    removals.py, removal_oracle.py              namespaces that are deleted while everything goes on in them
    fleet.py, fleet_oracle.py                   workers that say how they are, and who lists them
    program.py, interpreter.py                  random workflows, and the pure function from history to commands
    model.py, oracle.py                         what must hold: a second derivation from the history, named invariants
    world.py                                    one seed from beginning to end
    mutants.py                                  bugs on purpose, each of which the simulator must find
    rare.py, hints.py                           what seeds must meet, and which of them are tried first
"""
