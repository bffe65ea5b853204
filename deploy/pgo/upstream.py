"""An HTTP/1.1 server for the training: prints its port and answers until its standard input ends.

Paths that end with `/chunked` get four chunks of 256 bytes, those that end with `/empty` 204, all others 1 KiB with Content-Length.
"""

import asyncio
import sys

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
PLAIN_HEAD = HEAD + b"Content-Length: 1024\r\n\r\n"
PLAIN = PLAIN_HEAD + b"x" * 1024
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"100\r\n" + b"x" * 256 + b"\r\n") * 4 + b"0\r\n\r\n"
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


def response_to(head):
    method, target, _ = head.split(b" ", 2)
    if target.endswith(b"/empty"):
        return EMPTY
    if target.endswith(b"/chunked"):
        return CHUNKED
    return PLAIN_HEAD if method == b"HEAD" else PLAIN


def body_end(received, start):
    """Where the body of the request ends that begins at `start`; None if it is incomplete."""
    head = received[:start].lower()
    if b"transfer-encoding: chunked" in head:
        last = received.find(b"0\r\n\r\n", start)
        return None if last < 0 else last + 5
    _, found, length = head.partition(b"\r\ncontent-length:")
    end = start + (int(length.split(b"\r\n", 1)[0]) if found else 0)
    return end if end <= len(received) else None


class Upstream(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.received = transport, b""

    def data_received(self, data):
        self.received += data
        while (head := self.received.find(b"\r\n\r\n")) >= 0:
            end = body_end(self.received, head + 4)
            if end is None:
                return
            self.transport.write(response_to(self.received))
            self.received = self.received[end:]


async def serve():
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    # The end of the training ends this process too, however it ends.
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
