"""Writes the type stub of one proto package, so that `mypy --strict` knows every field, constructor and enum.

References are always written in full (`perdure.api.common.v1.Payload`, `builtins.int`): a field may be called
like a type, and inside the class body the field would win.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    ServiceDescriptorProto,
)

from build_api.names import is_usable, module_of

_SCALARS: Mapping[int, str] = {
    FieldDescriptorProto.TYPE_DOUBLE: "builtins.float",
    FieldDescriptorProto.TYPE_FLOAT: "builtins.float",
    FieldDescriptorProto.TYPE_INT64: "builtins.int",
    FieldDescriptorProto.TYPE_UINT64: "builtins.int",
    FieldDescriptorProto.TYPE_INT32: "builtins.int",
    FieldDescriptorProto.TYPE_FIXED64: "builtins.int",
    FieldDescriptorProto.TYPE_FIXED32: "builtins.int",
    FieldDescriptorProto.TYPE_BOOL: "builtins.bool",
    FieldDescriptorProto.TYPE_STRING: "builtins.str",
    FieldDescriptorProto.TYPE_BYTES: "builtins.bytes",
    FieldDescriptorProto.TYPE_UINT32: "builtins.int",
    FieldDescriptorProto.TYPE_SFIXED32: "builtins.int",
    FieldDescriptorProto.TYPE_SFIXED64: "builtins.int",
    FieldDescriptorProto.TYPE_SINT32: "builtins.int",
    FieldDescriptorProto.TYPE_SINT64: "builtins.int",
}
_WITH_HELPERS = frozenset({"Any", "Duration", "FieldMask", "ListValue", "Struct", "Timestamp"})
_CONTAINERS = "google.protobuf.internal.containers"
_MULTI_CALLABLES = {"Stub": "grpc.UnaryUnaryMultiCallable", "AsyncStub": "grpc.aio.UnaryUnaryMultiCallable"}
_CHANNELS = {"Stub": "grpc.Channel", "AsyncStub": "grpc.aio.Channel"}
_INDENT = "    "


class StubWriter:
    """Turns descriptors into stub text. It knows all files, because references cross packages."""

    def __init__(self, files: Iterable[FileDescriptorProto]) -> None:
        self._python_names: dict[str, str] = {}
        self._map_entries: dict[str, DescriptorProto] = {}
        for file in files:
            module = module_of(file.package)
            for enum in file.enum_type:
                self._index(f".{file.package}.{enum.name}", f"{module}.{enum.name}", module)
            for message in file.message_type:
                self._index_message(message, f".{file.package}", module)

    def _index(self, proto_name: str, python_name: str, module: str | None) -> None:
        self._python_names[proto_name] = python_name if module else "google.protobuf.message.Message"

    def _index_message(self, message: DescriptorProto, scope: str, module: str | None) -> None:
        proto_name = f"{scope}.{message.name}"
        python_scope = self._python_names.get(scope, module)
        self._index(proto_name, f"{python_scope}.{message.name}", module)
        for enum in message.enum_type:
            self._index(f"{proto_name}.{enum.name}", f"{python_scope}.{message.name}.{enum.name}", module)
        for nested in message.nested_type:
            if nested.options.map_entry:
                self._map_entries[f"{proto_name}.{nested.name}"] = nested
            else:
                self._index_message(nested, proto_name, module)

    def module(self, package: str, files: Sequence[FileDescriptorProto]) -> str:
        """Return the stub of the Python module that shows `package`, made of `files`."""
        body: list[str] = []
        own = str(module_of(package))
        for file in files:
            for enum in file.enum_type:
                body.extend([*_enum(enum, own), ""])
            for message in file.message_type:
                body.extend(self._message(message, f".{package}"))
            for service in file.service:
                body.extend(self._service(service))
        text = "\n".join(body)
        modules = {module for file in files for module in self._modules_needed(file)} | {own}
        header = [f'"""Types of `{package}`; generated when Perdure is built, do not edit."""', ""]
        candidates = (
            "builtins",
            "collections.abc",
            "typing",
            "google.protobuf.descriptor",
            "google.protobuf.internal.containers",
            "google.protobuf.internal.enum_type_wrapper",
            "google.protobuf.internal.well_known_types",
            "google.protobuf.message",
            "grpc",
            "grpc.aio",
            *sorted(modules),
        )
        header.extend(f"import {name}" for name in candidates if f"{name}." in text)
        return "\n".join([*header, "", *body]) + "\n"

    def file_modules(self, file: FileDescriptorProto) -> Iterator[tuple[str, str, str]]:
        """Yield what the official package has for a file beside its package: suffix, content in a word, stub.

        Its classes are those of the package, which only the package's module defines.
        """
        if not file.package.startswith("temporal.api."):
            return
        messages = [message.name for message in file.message_type]
        for enum in file.enum_type:
            messages += [enum.name, *(value.name for value in enum.value if is_usable(value.name))]
        descriptor = [
            "import google.protobuf.descriptor",
            "",
            "DESCRIPTOR: google.protobuf.descriptor.FileDescriptor",
        ]
        yield "_pb2", "Messages and enums", _names_again(file, messages, descriptor)
        services = [
            name.format(service.name)
            for service in file.service
            for name in ("{}Stub", "{}AsyncStub", "{}Servicer", "add_{}Servicer_to_server")
        ]
        if services:
            yield "_pb2_grpc", "Clients and servers", _names_again(file, services, [])

    def _modules_needed(self, file: FileDescriptorProto) -> Iterator[str]:
        for reference in self._references(file):
            name = self._python_names.get(reference)
            if name and name.startswith("perdure."):
                yield ".".join(part for part in name.split(".") if not part[:1].isupper())

    def _references(self, file: FileDescriptorProto) -> Iterator[str]:
        def of_message(message: DescriptorProto) -> Iterator[str]:
            for field in message.field:
                if field.type_name:
                    yield field.type_name
            for nested in message.nested_type:
                yield from of_message(nested)

        for message in file.message_type:
            yield from of_message(message)
        for service in file.service:
            for method in service.method:
                yield from (method.input_type, method.output_type)

    def _message(self, message: DescriptorProto, scope: str) -> list[str]:
        proto_name = f"{scope}.{message.name}"
        bases = "google.protobuf.message.Message"
        if scope == ".google.protobuf" and message.name in _WITH_HELPERS:
            bases += f", google.protobuf.internal.well_known_types.{message.name}"
        body = ["DESCRIPTOR: google.protobuf.descriptor.Descriptor"]
        for enum in message.enum_type:
            body.extend(_enum(enum, self._python_names[proto_name]))
        for nested in message.nested_type:
            if not nested.options.map_entry:
                body.extend(self._message(nested, proto_name))
        usable = [field for field in message.field if is_usable(field.name)]
        body.extend(f"{field.name.upper()}_FIELD_NUMBER: builtins.int" for field in usable)
        for field in usable:
            body.extend(self._attribute(field))
        body.extend(self._constructor(usable))
        body.extend(_presence(message))
        return [f"class {message.name}({bases}):", *(_INDENT + line for line in body), ""]

    def _attribute(self, field: FieldDescriptorProto) -> list[str]:
        entry = self._map_entries.get(field.type_name)
        is_message = field.type == FieldDescriptorProto.TYPE_MESSAGE
        if entry is not None:
            value = entry.field[1]
            kind = "MessageMap" if value.type == FieldDescriptorProto.TYPE_MESSAGE else "ScalarMap"
            value_type = f"{_CONTAINERS}.{kind}[{self._type(entry.field[0])}, {self._type(value)}]"
        elif field.label == FieldDescriptorProto.LABEL_REPEATED:
            kind = "RepeatedCompositeFieldContainer" if is_message else "RepeatedScalarFieldContainer"
            value_type = f"{_CONTAINERS}.{kind}[{self._type(field)}]"
        elif is_message:
            value_type = self._type(field)
        else:
            return [f"{field.name}: {self._type(field)}"]
        return ["@builtins.property", f"def {field.name}(self) -> {value_type}: ..."]

    def _constructor(self, fields: Sequence[FieldDescriptorProto]) -> list[str]:
        named = [field for field in fields if field.name != "self"]
        if not named:
            return ["def __init__(self) -> None: ..."]
        arguments = [f"{_INDENT}{field.name}: {self._argument(field)} = ...," for field in named]
        return ["def __init__(", f"{_INDENT}self,", f"{_INDENT}*,", *arguments, ") -> None: ..."]

    def _argument(self, field: FieldDescriptorProto) -> str:
        entry = self._map_entries.get(field.type_name)
        if entry is not None:
            key, value = (self._type(part) for part in entry.field)
            return f"collections.abc.Mapping[{key}, {value}] | None"
        if field.label == FieldDescriptorProto.LABEL_REPEATED:
            return f"collections.abc.Iterable[{self._type(field)}] | None"
        return f"{self._type(field)} | None"

    def _type(self, field: FieldDescriptorProto) -> str:
        scalar = _SCALARS.get(field.type)
        if scalar is not None:
            return scalar
        name = self._python_names[field.type_name]
        return f"{name}.ValueType" if field.type == FieldDescriptorProto.TYPE_ENUM else name

    def _service(self, service: ServiceDescriptorProto) -> list[str]:
        lines: list[str] = []
        for suffix, channel in _CHANNELS.items():
            lines.append(f"class {service.name}{suffix}:")
            lines.append(f"{_INDENT}def __init__(self, channel: {channel}) -> None: ...")
            for method in service.method:
                request = self._python_names[method.input_type]
                response = self._python_names[method.output_type]
                lines.append(f"{_INDENT}{method.name}: {_MULTI_CALLABLES[suffix]}[{request}, {response}]")
            lines.append("")
        return [*lines, *self._servicer(service)]

    def _servicer(self, service: ServiceDescriptorProto) -> list[str]:
        lines = [f"class {service.name}Servicer:"]
        for method in service.method:
            request = self._python_names[method.input_type]
            response = self._python_names[method.output_type]
            answer = f"{response} | collections.abc.Awaitable[{response}]"
            lines.append(
                f"{_INDENT}def {method.name}(self, request: {request}, context: typing.Any) -> {answer}: ..."
            )
        server = "grpc.Server | grpc.aio.Server"
        arguments = f"servicer: {service.name}Servicer, server: {server}"
        return [*lines, f"def add_{service.name}Servicer_to_server({arguments}) -> None: ...", ""]


def _names_again(file: FileDescriptorProto, names: Sequence[str], more: Sequence[str]) -> str:
    """Return the stub of a module that shows names of a file's package."""
    lines = [f'"""Types of `{file.name}`; generated when Perdure is built, do not edit."""', ""]
    if names:
        lines += [
            f"from {module_of(file.package)} import (",
            *(f"{_INDENT}{name} as {name}," for name in names),
            ")",
        ]
    return "\n".join([*lines, *more]) + "\n"


def _enum(enum: EnumDescriptorProto, python_scope: str) -> list[str]:
    """Return an enum as protobuf shows it: a wrapper object with the values, and the values beside it."""
    name = enum.name
    value_type = f"{python_scope}._{name}.ValueType"
    values = [value.name for value in enum.value if is_usable(value.name)]
    wrapper = f"google.protobuf.internal.enum_type_wrapper._EnumTypeWrapper[{value_type}]"
    return [
        f"class _{name}:",
        f'{_INDENT}ValueType = typing.NewType("ValueType", builtins.int)',
        f"class _{name}Wrapper({wrapper}):",
        f"{_INDENT}DESCRIPTOR: google.protobuf.descriptor.EnumDescriptor",
        *(f"{_INDENT}{value}: {value_type}" for value in values),
        f"class {name}(_{name}, metaclass=_{name}Wrapper): ...",
        *(f"{value}: {value_type}" for value in values),
    ]


def _presence(message: DescriptorProto) -> list[str]:
    """Return typed `HasField` and `WhichOneof`, so that a misspelt field name is a type error."""
    groups: dict[str, list[str]] = {}
    present: list[str] = []
    for field in message.field:
        is_single = field.label != FieldDescriptorProto.LABEL_REPEATED
        has_group = field.HasField("oneof_index")
        if has_group and not field.proto3_optional:
            groups.setdefault(message.oneof_decl[field.oneof_index].name, []).append(field.name)
        if is_single and (has_group or field.type == FieldDescriptorProto.TYPE_MESSAGE):
            present.append(field.name)
    lines = [f"def HasField(self, field_name: {_literal([*present, *groups])}) -> builtins.bool: ..."]
    if message.field:
        names = _literal([*(field.name for field in message.field), *groups])
        lines.append(f"def ClearField(self, field_name: {names}) -> None: ...")
    for group, members in groups.items():
        if len(groups) > 1:
            lines.append("@typing.overload")
        result = f"{_literal(members)} | None"
        lines.append(f"def WhichOneof(self, oneof_group: {_literal([group])}) -> {result}: ...")
    return lines


def _literal(names: Iterable[str]) -> str:
    quoted = ", ".join(f'"{name}"' for name in names)
    return f"typing.Literal[{quoted}]" if quoted else "typing.Never"
