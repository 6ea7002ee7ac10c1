"""Brokers of one's own, on free ports of the loopback interface, in processes ended by their ids.

Each can be killed and started again on the same port with what it had stored. May live here: starting, sending and
looking. May not: consuming.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import tempfile
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import aio_pika
import aiobotocore.session
import redis.asyncio

from examples.ports import HOST, free_port
from perdure.contrib.bridge import Source
from perdure.contrib.bridge.rabbitmq import RabbitQueue
from perdure.contrib.bridge.redis import RedisStream
from perdure.contrib.bridge.sqs import SqsQueue

START_TIMEOUT_S = 90.0
POLL_S = 0.05
RABBIT = "/usr/lib/rabbitmq/bin/rabbitmq-server"
"""Not the one in /usr/sbin, which changes to the user of the system's own broker."""

SQS_OPTIONS = {"region_name": "us-east-1", "aws_access_key_id": "none", "aws_secret_access_key": "none"}


class BrokerMissingError(Exception):
    """The program is not installed; the message says what is."""


class Broker(Protocol):
    """What the examples and tests need of a broker, started by this object or by another with the same port."""

    port: int

    def source(self, queue: str, *, claim_after_s: int) -> Source:
        """A source for the bridge."""
        ...

    async def make(self, queue: str) -> None:
        """Make a queue, and the one for poison."""
        ...

    async def send(self, queue: str, *messages: tuple[str, str]) -> None:
        """Send messages, each a body and its producer's id, and return when the broker has them."""
        ...

    async def dead(self, queue: str) -> list[tuple[str, str]]:
        """Body and reason of what was set aside."""
        ...

    async def left(self, queue: str) -> int:
        """Messages that the broker would still deliver, or has delivered and has no answer for."""
        ...

    async def start(self) -> None:
        """Start, or start again, and return when it serves."""
        ...

    async def kill(self) -> None:
        """End it without warning."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class _Process(ABC):
    """One process in a group of its own, with a folder of its own."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.folder = Path(tempfile.gettempdir(), f"perdure-broker-{self.port}")
        self._process: asyncio.subprocess.Process | None = None

    async def _run(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "output").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.folder,
                env=environment,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not await self.serves():
                    if self._process.returncode is not None:
                        raise RuntimeError(f"{command[0]} ended:\n{self._output()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            await self.kill()
            raise RuntimeError(
                f"{command[0]} did not serve in {START_TIMEOUT_S} s:\n{self._output()}"
            ) from None

    def _output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")[-4000:]

    @abstractmethod
    async def serves(self) -> bool:
        """Whether it answers."""

    async def kill(self) -> None:
        """Kill the process and all that it started."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()

    @abstractmethod
    async def start(self) -> None:
        """Start it."""

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Redis(_Process):
    """`redis-server` that writes every command to its file before it answers."""

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://{HOST}:{self.port}/0"

    async def start(self) -> None:
        """Start it."""
        program = shutil.which("redis-server")
        if program is None:
            raise BrokerMissingError("redis-server is not installed (Debian: redis-server)")
        options = {"port": self.port, "bind": HOST, "dir": self.folder, "save": "", "appendonly": "yes"}
        given = [part for key, value in options.items() for part in (f"--{key}", str(value))]
        await self._run(program, *given, "--appendfsync", "always")

    async def serves(self) -> bool:
        """Whether it answers."""
        try:
            async with self._client() as client:
                return bool(await client.ping())
        except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError):
            return False

    @contextlib.asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        client = redis.asyncio.Redis.from_url(self.url, socket_connect_timeout=2)
        try:
            yield client
        finally:
            await client.aclose()

    def source(self, queue: str, *, claim_after_s: int) -> Source:
        """A source for the bridge."""
        return RedisStream(self.url, queue, claim_after_s=claim_after_s)

    async def make(self, queue: str) -> None:
        """Nothing: a stream is made by its first entry."""

    async def send(self, queue: str, *messages: tuple[str, str]) -> None:
        """Add entries."""
        async with self._client() as client:
            for body, message_id in messages:
                await client.xadd(queue, {"body": body, "message_id": message_id})

    async def dead(self, queue: str) -> list[tuple[str, str]]:
        """Body and reason of what was set aside."""
        async with self._client() as client:
            entries = await client.xrange(f"{queue}:dead")
        return [(fields[b"body"].decode(), fields[b"perdure-reason"].decode()) for _, fields in entries]

    async def left(self, queue: str) -> int:
        """Entries that are pending or were not delivered."""
        async with self._client() as client:
            groups = await client.xinfo_groups(queue)
        return sum(group["pending"] + (group["lag"] or 0) for group in groups)


class RabbitMQ(_Process):
    """`rabbitmq-server` with a port mapper of its own, so that nothing is shared with other brokers of the machine."""

    def __init__(self, port: int | None = None) -> None:
        super().__init__(port)
        self._mapper_port = free_port()
        self._distribution_port = free_port()
        self._mapper: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"amqp://guest:guest@{HOST}:{self.port}/"

    async def start(self) -> None:
        """Start it."""
        mapper = shutil.which("epmd")
        if mapper is None or shutil.which(RABBIT) is None:
            raise BrokerMissingError("rabbitmq-server is not installed (Debian: rabbitmq-server)")
        self.folder.mkdir(exist_ok=True)
        (self.folder / "plugins").write_text("[].")
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = {HOST}:{self.port}\n"
            "vm_memory_high_watermark.absolute = 256MB\n"
            "disk_free_limit.absolute = 1MB\n"
            "log.console = true\nlog.console.level = warning\nlog.file = false\n"
        )
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.folder),
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_NODENAME": f"perdure-{self.port}@localhost",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": HOST,
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            # No busy waiting: this is not the only process of the machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "+sbwt none +sbwtdcpu none +sbwtdio none"
                " -kernel inet_dist_use_interface {127,0,0,1} -setcookie perdure"
            ),
        }
        if self._mapper is None:
            self._mapper = await asyncio.create_subprocess_exec(
                *(mapper, "-port", str(self._mapper_port), "-address", HOST),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        await self._run(RABBIT, environment=environment)

    async def serves(self) -> bool:
        """Whether one can log in; the port is open a little earlier."""
        try:
            # First without the library, which logs each try that fails.
            _, writer = await asyncio.open_connection(HOST, self.port)
            writer.close()
            connection = await aio_pika.connect(self.url, timeout=5)
        except (aio_pika.exceptions.AMQPError, OSError):
            return False
        await connection.close()
        return True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await super().__aexit__(kind, error, trace)
        mapper, self._mapper = self._mapper, None
        if mapper is not None:
            mapper.kill()
            await mapper.wait()

    @contextlib.asynccontextmanager
    async def _channel(self) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
        async with await aio_pika.connect(self.url, timeout=10) as connection:
            async with connection.channel() as channel:
                yield channel

    def source(self, queue: str, *, claim_after_s: int) -> Source:
        """A source for the bridge; deliveries of a dead one come again at once."""
        return RabbitQueue(self.url, queue)

    async def make(self, queue: str) -> None:
        """Make a durable queue, and that for poison."""
        async with self._channel() as channel:
            for name in (queue, f"{queue}.dead"):
                await channel.declare_queue(name, durable=True)

    async def send(self, queue: str, *messages: tuple[str, str]) -> None:
        """Publish persistent messages, and wait for the confirmations."""
        async with self._channel() as channel:
            for body, message_id in messages:
                message = aio_pika.Message(
                    body.encode(), message_id=message_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
                )
                await channel.default_exchange.publish(message, routing_key=queue)

    async def dead(self, queue: str) -> list[tuple[str, str]]:
        """Body and reason of what was set aside; it stays where it is."""
        found = []
        async with self._channel() as channel:
            dead = await channel.get_queue(f"{queue}.dead")
            while (message := await dead.get(fail=False)) is not None:
                found.append((message.body.decode(), str(message.headers["perdure-reason"])))
        return found

    async def left(self, queue: str) -> int:
        """Messages that are ready; a consumer's unacknowledged ones are not counted while it lives."""
        async with self._channel() as channel:
            declared = await channel.declare_queue(queue, passive=True)
            return declared.declaration_result.message_count or 0


class Sqs:
    """An SQS server in a thread of this process; what it stores outlives `kill`, as with the real one."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self._server: Any = None
        self._session = aiobotocore.session.get_session()

    @property
    def options(self) -> dict[str, str]:
        """For clients."""
        return {**SQS_OPTIONS, "endpoint_url": f"http://{HOST}:{self.port}"}

    def url(self, queue: str) -> str:
        """Of a queue."""
        return f"http://{HOST}:{self.port}/123456789012/{queue}"

    async def start(self) -> None:
        """Start it."""
        # Not needed to attach to one, and slow to load.
        from moto.server import ThreadedMotoServer

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address=HOST, port=self.port, verbose=False)
        await asyncio.to_thread(self._server.start)

    async def kill(self) -> None:
        """Close its port."""
        server, self._server = self._server, None
        if server is not None:
            await asyncio.to_thread(server.stop)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.kill()

    def _client(self) -> Any:
        return self._session.create_client("sqs", **self.options)

    def source(self, queue: str, *, claim_after_s: int) -> Source:
        """A source for the bridge."""
        return SqsQueue(
            self.url(queue),
            self.url(f"{queue}-dead"),
            visibility_timeout_s=claim_after_s,
            wait_s=1,
            client_options=self.options,
        )

    async def make(self, queue: str) -> None:
        """Make a queue, and that for poison."""
        async with self._client() as client:
            for name in (queue, f"{queue}-dead"):
                await client.create_queue(QueueName=name)

    async def send(self, queue: str, *messages: tuple[str, str]) -> None:
        """Send messages; the producer's id is an attribute."""
        async with self._client() as client:
            for body, message_id in messages:
                await client.send_message(
                    QueueUrl=self.url(queue),
                    MessageBody=body,
                    MessageAttributes={"message_id": {"DataType": "String", "StringValue": message_id}},
                )

    async def dead(self, queue: str) -> list[tuple[str, str]]:
        """Body and reason of what was set aside; invisible for a while after that."""
        found = []
        async with self._client() as client:
            while messages := await self._some(client, f"{queue}-dead"):
                found += [
                    (m["Body"], m["MessageAttributes"]["perdure-reason"]["StringValue"]) for m in messages
                ]
        return found

    async def _some(self, client: Any, queue: str) -> Sequence[Any]:
        answer = await client.receive_message(
            QueueUrl=self.url(queue),
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            VisibilityTimeout=600,
        )
        return list(answer.get("Messages", ()))

    async def left(self, queue: str) -> int:
        """Messages, visible or not."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        async with self._client() as client:
            answer = await client.get_queue_attributes(QueueUrl=self.url(queue), AttributeNames=names)
        return sum(int(answer["Attributes"][name]) for name in names)


BROKERS: dict[str, type[Redis] | type[RabbitMQ] | type[Sqs]] = {
    "redis": Redis,
    "rabbitmq": RabbitMQ,
    "sqs": Sqs,
}
