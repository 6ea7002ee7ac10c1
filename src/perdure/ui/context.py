"""One request to the UI: what it asks, who asks, and calls of the server in that user's name."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote, urlencode

from google.protobuf.message import Message

from perdure.service import RPCError, ServiceClient
from perdure.ui.codec import CodecError, RemoteCodec
from perdure.ui.config import CALL_TIMEOUT_S, MAX_PAGE_ROWS, UiConfig
from perdure.ui.preferences import Preferences
from perdure.ui.problems import problem

IDENTITY: Final = "perdure-ui"


class Context:
    """A request.

    Args:
        client: calls the server.
        config: of the UI.
        names: what the path names, such as `namespace`, decoded.
        query: of the address.
        form: fields of a form that was sent; a name may come several times.
        preferences: the user's.
        metadata: credentials, sent with every call.
        path: of the request, as it was sent, without the public path and `.json`.
        now_ns: the time of the request.
        is_json: the JSON twin is wanted.
    """

    def __init__(
        self,
        client: ServiceClient,
        config: UiConfig,
        *,
        names: Mapping[str, str],
        query: Mapping[str, str],
        form: Mapping[str, list[str]],
        preferences: Preferences,
        metadata: Mapping[str, str],
        path: str,
        now_ns: int,
        is_json: bool,
        method: str = "GET",
    ) -> None:
        self._client = client
        self.config = config
        self.names = names
        self.query = query
        self.form = form
        self.preferences = preferences
        self._metadata = metadata
        self.path = path
        self.now_ns = now_ns
        self.is_json = is_json
        self.method = method

    @property
    def namespace(self) -> str:
        """The namespace that the path names, or the default one."""
        return self.names.get("namespace", self.config.default_namespace)

    @property
    def has_token(self) -> bool:
        """Whether calls carry credentials of the user."""
        return "authorization" in self._metadata

    async def call(
        self, rpc: str, request: Message, *, service: str = "workflow", timeout_s: float = CALL_TIMEOUT_S
    ) -> Any:
        """Calls the server once.

        Args:
            rpc: its name in snake case.
            request: of the RPC's request class.
            service: `workflow` or `operator`.
            timeout_s: seconds to wait.

        Raises:
            RPCError: what the server answered.
        """
        methods = self._client.operator_service if service == "operator" else self._client.workflow_service
        return await getattr(methods, rpc)(
            request, metadata=self._metadata, timeout=timedelta(seconds=timeout_s)
        )

    def codec(self) -> RemoteCodec | None:
        """The codec to ask; None without one.

        Raises:
            CodecError: its address is none.
        """
        endpoint = self.config.codec_endpoint
        if self.config.is_local and self.preferences.codec_endpoint:
            endpoint = self.preferences.codec_endpoint
        if not endpoint:
            return None
        authorization = self._metadata.get("authorization", "") if self.preferences.codec_auth else ""
        return RemoteCodec(endpoint, self.namespace, authorization)

    async def decode(self, *messages: Message) -> str:
        """Decodes payloads in messages, in place; returns what went wrong, in words, or an empty text."""
        try:
            codec = self.codec()
            if codec is not None:
                for message in messages:
                    await codec.decode(message)
        except CodecError as error:
            return str(error)
        return ""

    def url(self, *parts: object, **query: Any) -> str:
        """An address in this UI; parts are quoted, query values that are None or empty left out."""
        path = "/".join(quote(str(part), safe="").replace(".json", "%2Ejson") for part in parts)
        given = {name.rstrip("_"): value for name, value in query.items() if value not in (None, "")}
        return f"{self.config.public_path}/{path}" + (f"?{urlencode(given)}" if given else "")

    def here(self, **changes: Any) -> str:
        """The address of this page with changes of its query; None removes a value."""
        query = {**self.query, **{name.rstrip("_"): value for name, value in changes.items()}}
        given = {name: value for name, value in query.items() if value not in (None, "")}
        return f"{self.config.public_path}{self.path}" + (f"?{urlencode(given)}" if given else "")

    def json_url(self) -> str:
        """The address of this page's JSON twin."""
        path, _, query = self.here().partition("?")
        return f"{path.rstrip('/')}.json" + (f"?{query}" if query else "")

    def number(self, name: str, default: int, least: int = 0, most: int = MAX_PAGE_ROWS) -> int:
        """A number of the query, kept within bounds; the default if it is none."""
        text = self.query.get(name, "")
        return max(least, min(int(text), most)) if text.isascii() and text.isdigit() else default

    def field(self, name: str) -> str:
        """A field of the form that was sent, without spaces around; empty if it was not."""
        return self.form.get(name, [""])[0].strip()


async def part(call: Awaitable[Any]) -> tuple[Any, dict[str, Any] | None]:
    """The answer of a call that is one part of a page, or its error for that part."""
    try:
        return await call, None
    except RPCError as error:
        return None, problem(error)
