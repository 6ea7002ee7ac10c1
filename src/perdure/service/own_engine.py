"""Opens the transport to an engine of this program: inside this process, or in a process of its own.

Apart from both, as a client of the one needs nothing of the other: the engine's modules are half of what is imported.
"""

from __future__ import annotations

from perdure.server.addresses import parse_address
from perdure.service.transport import Transport


async def open_own_engine(address: str) -> Transport:
    """Open the transport of an address such as `sqlite:///orders.db`; see `perdure.server.addresses`.

    Raises:
        AddressError: it is no address of an engine.
        ClientConnectError: the database cannot be used; if another process uses it, the message names that.
    """
    place = parse_address(address)
    if place.in_own_process:
        from perdure.service.process_transport import open_process

        return await open_process(address, place)
    from perdure.service.embedded import open_embedded

    return await open_embedded(address)
