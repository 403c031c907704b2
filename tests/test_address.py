"""Addresses and prefixes: the standard library's `ipaddress` is the oracle for IPv4."""

import doctest
import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubenet_fastpath import address
from kubenet_fastpath.address import ipv4, ipv4_prefix, ipv4_text, mac, mac_text, prefix_text
from kubenet_fastpath.errors import AddressError

octets = st.sampled_from(
    ["0", "00", "1", "01", "9", "10", "127", "255", "256", "-1", "", " 1", "1 ", "1e1", "\u0661"]
)
quads = st.lists(octets, min_size=3, max_size=5).map(".".join)
lengths = st.sampled_from(
    ["", "/", "/0", "/8", "/08", "/24", "/31", "/32", "/33", "/-1", "/ 8", "/255.0.0.0", "/0.255.255.255"]
)


def outcome(call, text):
    """Return what the call gives, or None where it refuses the text."""
    try:
        return call(text)
    except ValueError:
        return None


def network_and_length(text):
    network = ipaddress.IPv4Network(text)
    return int(network.network_address), network.prefixlen


@given(st.integers(0, 2**32 - 1))
def test_addresses_round_trip(value):
    assert ipv4_text(value) == str(ipaddress.IPv4Address(value))
    assert ipv4(ipv4_text(value)) == ipv4(value) == ipv4(ipaddress.IPv4Address(value)) == value


@given(quads)
def test_address_text_is_judged_as_the_standard_library_does(text):
    assert outcome(ipv4, text) == outcome(lambda t: int(ipaddress.IPv4Address(t)), text)


@given(quads, lengths)
def test_prefix_text_is_judged_as_the_standard_library_does(quad, length):
    assert outcome(ipv4_prefix, quad + length) == outcome(network_and_length, quad + length)


@given(st.integers(0, 2**32 - 1), st.integers(0, 32))
def test_prefixes_round_trip(value, length):
    network = value >> 32 - length << 32 - length
    assert ipv4_prefix(prefix_text(network, length)) == (network, length)
    assert ipv4_prefix(ipaddress.IPv4Network((network, length))) == (network, length)


@given(st.integers(0, 2**48 - 1))
def test_macs_round_trip(value):
    text = mac_text(value)
    assert mac(text) == mac(text.upper()) == mac(text.replace(":", "-")) == mac(value) == value
    assert len(text) == 17


@pytest.mark.parametrize(
    "text",
    ["", "0a:58:0a:f4:01", "0a:58:0a:f4:01:07:08", "a:58:0a:f4:01:07", "0a:58-0a:f4:01:07", "0a580af40107",
     "0a:58:0a:f4:01:0g", " 0a:58:0a:f4:01:07", "0a:58:0a:f4:01:07\n", "0a:58:0a:f4:01:\u0661\u0661"],
)  # fmt: skip
def test_text_that_is_no_mac_is_refused_by_name(text):
    with pytest.raises(AddressError) as refusal:
        mac(text)
    assert repr(text) in str(refusal.value)


@pytest.mark.parametrize("call", [ipv4, ipv4_text, mac, mac_text])
def test_numbers_out_of_range_are_refused_by_name(call):
    limit = 2**48 if call in (mac, mac_text) else 2**32
    for value in (-1, limit):
        with pytest.raises(AddressError, match=str(value)):
            call(value)
    assert call(np.uint64(limit - 1)) == call(limit - 1)


@pytest.mark.parametrize(("network", "length"), [(1, 31), (0x0A000001, 8), (0, 33), (0, -1)])
def test_numbers_that_are_no_prefix_are_refused(network, length):
    with pytest.raises(AddressError):
        prefix_text(network, length)


def test_host_bits_are_refused_and_the_prefix_is_named():
    with pytest.raises(AddressError, match=r"10\.0\.0\.1/8"):
        ipv4_prefix("10.0.0.1/8")
    assert ipv4_prefix("10.0.0.1/8", mask_host_bits=True) == (0x0A000000, 8)


@pytest.mark.parametrize("call", [ipv4, ipv4_prefix, mac])
@pytest.mark.parametrize("value", [1.0, None, b"10.0.0.1"])
def test_other_types_are_refused(call, value):
    with pytest.raises(TypeError):
        call(value)


def test_the_examples_hold():
    assert doctest.testmod(address).failed == 0
