"""The descriptor pool of the wire contract, and how its classes come to be.

The pool is our own and not the process-wide default one, so any release of the official SDK can be imported
in the same process, before or after. Registering descriptors is cheap; classes are built on first use,
because building all of them would make every start of a command slow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any as Anything

from google.protobuf.descriptor import EnumDescriptor, FileDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from perdure.api.foreign import opened

_DATA_FILE = "descriptors.binpb"


def _load() -> DescriptorPool:
    pool = DescriptorPool()
    # A plain open: importlib.resources and pathlib would take a quarter of this package's whole import time.
    with open(os.path.join(os.path.dirname(__file__), _DATA_FILE), "rb") as data_file:
        for file in FileDescriptorSet.FromString(data_file.read()).file:
            pool.AddSerializedFile(file.SerializeToString())
    return pool


POOL = _load()
"""All descriptors of the wire contract; pass it wherever protobuf asks for a `descriptor_pool`."""


@cache
def message_class(full_name: str) -> type[Message]:
    """Return the class of a message by its proto name, such as `temporal.api.common.v1.Payload`.

    Raises:
        KeyError: the contract has no such message.
    """
    return GetMessageClass(POOL.FindMessageTypeByName(full_name))


def bind(
    module_name: str, namespace: dict[str, Anything], file_names: tuple[str, ...]
) -> tuple[Callable[[str], Anything], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a generated module.

    The first access to a name builds the class and stores it in the module, so later accesses cost what they
    cost in any module.

    Args:
        module_name: Name of the module, shown in errors and as `__module__` of its classes.
        namespace: The module's globals.
        file_names: The proto files whose content the module shows.
    """
    descriptors = [POOL.FindFileByName(name) for name in file_names]

    def __getattr__(name: str) -> Anything:
        if name == "__all__":
            return sorted(_names(descriptors))
        for file in descriptors:
            for resolved_name, value in _resolve(file, name):
                if isinstance(value, type):
                    value.__module__ = module_name
                namespace[resolved_name] = value
            if name in namespace:
                return namespace[name]
        raise AttributeError(f"module {module_name!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*namespace, *_names(descriptors)})

    return __getattr__, __dir__


def bind_file(
    module_name: str, file_name: str
) -> tuple[Callable[[str], Anything], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a generated module that shows one file of a package, as official code names it.

    Args:
        module_name: Name of the module, in its package's folder; one that ends in `_grpc` shows services.
        file_name: The proto file.
    """
    file = POOL.FindFileByName(file_name)
    names = {*_service_names(file)} if module_name.endswith("_grpc") else {*_message_names(file)}

    def __getattr__(name: str) -> Anything:
        if name == "DESCRIPTOR":
            return file
        if name == "__all__":
            return sorted(names)
        if name in names:
            return getattr(import_module(module_name.rpartition(".")[0]), name)
        raise AttributeError(f"module {module_name!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*names, "DESCRIPTOR"})

    return __getattr__, __dir__


def _resolve(file: FileDescriptor, name: str) -> Iterator[tuple[str, object]]:
    """Yield what to store in a module so that `name` is there, if `file` defines it."""
    if name in file.message_types_by_name:
        yield name, opened(GetMessageClass(file.message_types_by_name[name]))
    elif name in file.enum_types_by_name:
        yield name, EnumTypeWrapper(file.enum_types_by_name[name])
    elif name.endswith("Stub"):
        service = file.services_by_name.get(name.removesuffix("Stub").removesuffix("Async"))
        if service is not None:
            stub = _stub_class(service)
            yield service.name + "Stub", stub
            yield service.name + "AsyncStub", stub
    elif name.endswith(("Servicer", "Servicer_to_server")):
        service = file.services_by_name.get(
            name.removeprefix("add_").removesuffix("_to_server").removesuffix("Servicer")
        )
        if service is not None:
            yield f"{service.name}Servicer", _servicer_class(service)
            yield f"add_{service.name}Servicer_to_server", _servicer_adder(service)
    elif name.isupper():
        for enum in file.enum_types_by_name.values():
            if name in enum.values_by_name:
                yield from _values(enum)


def _values(enum: EnumDescriptor) -> Iterator[tuple[str, int]]:
    return ((value.name, value.number) for value in enum.values)


def _names(descriptors: list[FileDescriptor]) -> Iterator[str]:
    for file in descriptors:
        yield from _message_names(file)
        yield from _service_names(file)


def _message_names(file: FileDescriptor) -> Iterator[str]:
    yield from file.message_types_by_name
    for enum in file.enum_types_by_name.values():
        yield enum.name
        yield from (name for name, _ in _values(enum))


def _service_names(file: FileDescriptor) -> Iterator[str]:
    for service in file.services_by_name:
        yield from (service + "Stub", service + "AsyncStub", service + "Servicer")
        yield f"add_{service}Servicer_to_server"


def rpc_classes(service: ServiceDescriptor) -> Mapping[str, tuple[type[Message], type[Message]]]:
    """Return request and response class of every method of a service, by method name."""
    return {
        method.name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
        for method in service.methods
    }


def _stub_class(service: ServiceDescriptor) -> type:
    def __init__(self: object, channel: Anything) -> None:
        for name, (request, response) in rpc_classes(service).items():
            call = channel.unary_unary(
                f"/{service.full_name}/{name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            setattr(self, name, call)

    documentation = f"Client of `{service.full_name}` over a `grpc.Channel` or `grpc.aio.Channel`."
    return type(service.name + "Stub", (), {"__init__": __init__, "__doc__": documentation})


def _servicer_class(service: ServiceDescriptor) -> type:
    def refuse(name: str) -> Callable[..., Anything]:
        def method(self: object, request: Anything, context: Anything) -> Anything:
            import grpc

            context.set_code(grpc.StatusCode.UNIMPLEMENTED)
            context.set_details(f"{service.full_name}/{name} is not implemented here")
            raise NotImplementedError(name)

        method.__name__ = name
        return method

    documentation = (
        f"Base of servers of `{service.full_name}` on grpcio; override the methods that are served."
    )
    methods = {method.name: refuse(method.name) for method in service.methods}
    return type(service.name + "Servicer", (), {**methods, "__doc__": documentation})


def _servicer_adder(service: ServiceDescriptor) -> Callable[[Anything, Anything], None]:
    def add_to_server(servicer: Anything, server: Anything) -> None:
        import grpc

        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                getattr(servicer, name),
                request_deserializer=request.FromString,
                response_serializer=response.SerializeToString,
            )
            for name, (request, response) in rpc_classes(service).items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))

    return add_to_server
