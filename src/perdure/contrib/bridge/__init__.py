"""From a queue to workflows: each message starts or signals one workflow, once, by the message's id.

    source = RedisStream("redis://localhost", "orders")  # of perdure.contrib.bridge.redis; also .rabbitmq and .sqs
    bridge = Bridge(client, source, handler=decide)
    await bridge.run()

The broker delivers at least once, the ids of what is asked of the server follow from the message's id, and the server
does what carries the same id once. Decision record 39 says what happens when the bridge, the broker or the server dies.
Each source is in a module of its own that needs its library; nothing here does.
"""

from perdure.contrib.bridge._bridge import Bridge
from perdure.contrib.bridge._decisions import Decision, SignalWorkflow, StartWorkflow
from perdure.contrib.bridge._messages import Counters, Message
from perdure.contrib.bridge._source import Delivery, Source, SourceDownError

__all__ = [
    "Bridge",
    "Counters",
    "Decision",
    "Delivery",
    "Message",
    "SignalWorkflow",
    "Source",
    "SourceDownError",
    "StartWorkflow",
]
