"""What addresses of embedded engines mean, and what is said about those that mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from perdure.server.addresses import AddressError, parse_address


@pytest.mark.parametrize("address", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_an_address_without_a_file_is_in_memory(address: str) -> None:
    """All its spellings are the same engine."""
    place = parse_address(address)
    assert place.path is None
    assert place.key == parse_address("sqlite://").key


def test_a_name_makes_another_engine_in_memory() -> None:
    """Equal names are equal engines."""
    assert parse_address("sqlite://?name=a").key == parse_address("sqlite://?name=a").key
    assert parse_address("sqlite://?name=a").key != parse_address("sqlite://").key


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("sqlite:///orders.db", "{cwd}/orders.db"),
        ("sqlite:///data/orders.db", "{cwd}/data/orders.db"),
        ("sqlite:///./a/../orders.db", "{cwd}/orders.db"),
        ("sqlite:////orders.db", "/orders.db"),
        ("sqlite:////tmp/my%20orders%23.db", "/tmp/my orders#.db"),
        ("sqlite:///~/orders.db", "{home}/orders.db"),
    ],
)
def test_paths(address: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three slashes are relative, four absolute; every path is resolved at once."""
    monkeypatch.chdir(tmp_path)
    expected = path.format(cwd=tmp_path.resolve(), home=Path.home().resolve())
    assert str(parse_address(address).path) == expected


def test_two_paths_of_one_file_are_one_engine(tmp_path: Path) -> None:
    """Links are followed."""
    (tmp_path / "link").symlink_to(tmp_path)
    assert (
        parse_address(f"sqlite:///{tmp_path}/a.db").key
        == parse_address(f"sqlite:///{tmp_path}/link/a.db").key
    )


def test_options() -> None:
    """Namespaces and pragmas are told apart."""
    place = parse_address("sqlite:////o.db?namespace=a&namespace=b&synchronous=normal")
    assert place.namespaces == ("a", "b")
    assert place.pragmas == {"synchronous": "normal"}
    assert place.store_name == "sqlite"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("sqlite://orders.db", "sqlite:///orders.db"),
        ("sqlite://data/orders.db", "sqlite:///data/orders.db"),
        ("postgresql://host/db", "not supported"),
        ("localhost:7233", "sqlite:///FILE"),
        ("sqlite:orders.db", "sqlite:///FILE"),
        ("sqlite:///a#b.db", "%23"),
        ("sqlite:///a.db?name=b", "only an engine in memory"),
        ("sqlite://?synchronous=off", "takes no such option"),
        ("sqlite:///a.db?namespace=", "has no value"),
        ("sqlite:///a%00b.db", "no path"),
    ],
)
def test_what_is_no_address_says_what_one_looks_like(address: str, says: str) -> None:
    """The error is typed, names the address and says what to write."""
    with pytest.raises(AddressError, match="(?s)" + says.replace("?", r"\?")) as caught:
        parse_address(address)
    assert address in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("password", ["s3cret", "s3cret@x/s3cret:y"])
def test_a_password_in_an_address_is_not_repeated(password: str) -> None:
    """What says that an address cannot be used goes into logs."""
    with pytest.raises(AddressError, match=r"postgresql://me:\*\*\*@host/db") as caught:
        parse_address(f"postgresql://me:{password}@host/db")
    assert "s3cret" not in str(caught.value)


def test_brackets_where_a_host_could_stand_are_no_address() -> None:
    """Python's own error about IPv6 says nothing of addresses of engines."""
    with pytest.raises(AddressError, match="sqlite:///FILE"):
        parse_address("sqlite://[orders]/a.db")


@pytest.mark.parametrize("address", ["sqlite:///a\nb.db", "sqlite:///a\tb.db", "sqlite:///a.db\r\n"])
def test_an_address_is_one_line(address: str) -> None:
    """Python's own reader of URLs would leave the break out, and name another file."""
    with pytest.raises(AddressError, match="an address is one line"):
        parse_address(address)
    assert parse_address("sqlite:////a%0Ab.db").path == Path("/a\nb.db")
