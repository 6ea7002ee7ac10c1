"""Random workflow code and a random server around it, both from one seed.

Lives here: what may happen to a workflow. May not: expectations.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from perdure.api.failure.v1 import Failure
from tests.unit.replay.code import Code, Context, Future, Stopped
from tests.unit.replay.model import Model

MAX_STEPS = 60


def random_code(seed: int) -> Callable[[], Code]:
    """Makes code whose choices follow from the seed and from what history tells it, never from anything else."""

    async def main(context: Context) -> str:
        choices = random.Random(seed)
        branches = [
            context.spawn(_branch(context, choices.randrange(1 << 30), 0))
            for _ in range(choices.randint(1, 3))
        ]
        for branch in branches:
            await _settled(branch)
        if context.cancel_reason is not None:
            raise Stopped(None, is_canceled=True)
        return ",".join(context.log)

    async def on_update(context: Context, name: str) -> str:
        choices = random.Random(f"{seed} {context.seq('update')}")
        await choices.choice(_IN_UPDATES)(context, choices, 2)
        return name

    def validator(update_id: str) -> None:
        if int(update_id) % 4 == 0:
            raise Stopped(Failure(message="no"))

    def make() -> Code:
        code = Code(main, on_update)
        code.validator = validator
        return code

    return make


async def _settled(future: Future) -> None:
    try:
        await future
    except Stopped:
        return


async def _branch(context: Context, seed: int, depth: int) -> None:
    choices = random.Random(seed)
    for number in range(choices.randint(1, 4)):
        action = choices.choice(_ACTIONS)
        try:
            await action(context, choices, depth)
        except Stopped as error:
            context.log.append(f"failed {number} {error}")


async def _activity(context: Context, choices: random.Random, depth: int) -> None:
    await context.activity(choices.choice("abc"))


async def _timer(context: Context, choices: random.Random, depth: int) -> None:
    await context.timer(choices.randint(1, 100))


async def _race(context: Context, choices: random.Random, depth: int) -> None:
    timer, activity = context.timer(choices.randint(1, 50)), context.activity("race", choices.randrange(3))
    winner = await context.first(timer, activity)
    context.log.append(winner.kind)
    if winner is timer:
        context.cancel_activity(activity)
        await _settled(activity)
    else:
        context.cancel_timer(timer)


async def _dropped(context: Context, choices: random.Random, depth: int) -> None:
    timer, activity = context.timer(5), context.activity("dropped", choices.choice((0, 1)))
    context.cancel_timer(timer)
    context.cancel_activity(activity)
    await _settled(activity)


async def _gather(context: Context, choices: random.Random, depth: int) -> None:
    if depth > 1:
        return
    branches = [
        context.spawn(_branch(context, choices.randrange(1 << 30), depth + 1))
        for _ in range(choices.randint(2, 3))
    ]
    for branch in branches:
        await _settled(branch)


async def _signal(context: Context, choices: random.Random, depth: int) -> None:
    count = len(context.signals)
    timer = context.timer(30)
    await context.until(lambda: len(context.signals) > count or timer.done)
    context.log.append("signal" if len(context.signals) > count else "no signal")
    context.cancel_timer(timer)


async def _local(context: Context, choices: random.Random, depth: int) -> None:
    await context.local(choices.choice(("local", "fail")))


async def _locals(context: Context, choices: random.Random, depth: int) -> None:
    for future in [context.local("x"), context.local("y"), context.activity("beside")]:
        await future


async def _patch(context: Context, choices: random.Random, depth: int) -> None:
    if context.patched(f"patch {choices.randrange(3)}", choices.random() < 0.2):
        await context.activity("patched")


async def _at_once(context: Context, choices: random.Random, depth: int) -> None:
    context.log.append("at once")


async def _properties(context: Context, choices: random.Random, depth: int) -> None:
    context.upsert(Kw="value")
    context.upsert_memo(note="text")


_ACTIONS = (
    _activity,
    _activity,
    _timer,
    _race,
    _dropped,
    _gather,
    _signal,
    _local,
    _locals,
    _patch,
    _properties,
)
_IN_UPDATES = (_activity, _timer, _local, _race, _patch, _at_once, _signal)


def run_random(seed: int) -> Model:
    """Runs random code on a random server until it ends (or long enough)."""
    choices = random.Random(f"server {seed}")
    model = Model(random_code(seed))
    for _ in range(MAX_STEPS):
        if model.is_over:
            break
        if model.is_waiting:
            if choices.random() < 0.15:
                model.evict()
            if choices.random() < 0.1:
                model.driver.poll()
                model.driver.fail_task()
                model.evict()
                continue
            model.work(local_order=choices.choice((1, -1)), heartbeat=choices.random() < 0.2)
            if choices.random() < 0.7:
                continue
        _happen(model, choices)
    return model


def _happen(model: Model, choices: random.Random) -> None:
    driver = model.driver
    if not driver.header.is_open:
        return
    activities = driver.waiting_activities()
    options: list[Callable[[], object]] = []
    if activities:
        chosen = choices.choice(activities)
        options += [lambda: model.do_activity(chosen, choices.random() < 0.8)] * 3
    if driver.state.wakeup_ns is not None and driver.state.timers:
        options += [lambda: driver.wake()] * 2
    options += [lambda: driver.signal(choices.choice(("one", "two")))] * 3
    options += [lambda: driver.update(str(choices.randrange(1000)))] * 3
    options.append(lambda: driver.cancel())
    choices.choice(options)()
