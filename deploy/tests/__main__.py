"""Runs the tests in the namespaces that deploy/ci/deploy.sh made."""

import fcntl
import socket
import struct
import unittest

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def bring_loopback_up():
    """The loopback interface of a new network namespace is down."""
    with socket.socket() as handle:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(handle, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


bring_loopback_up()
unittest.main(module=None)
