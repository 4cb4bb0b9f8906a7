"""A client that says what it is told, octet for octet, from the very first one."""

from __future__ import annotations

import socket

MESSAGE = b"From: me@penstock.test\r\nSubject: hello\r\n\r\nhello\r\n"


class Dialogue:
    """A socket, command by command."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.lines = connection.makefile("rb")

    def reply(self) -> bytes:
        """Read a whole reply."""
        text = b""
        while (line := self.lines.readline()) != b"":
            text += line
            if line[3:4] != b"-":
                break
        return text

    def say(self, command: bytes) -> bytes:
        """Send a command; return its reply."""
        self.connection.sendall(command + b"\r\n")
        return self.reply()

    def close(self) -> None:
        """Break the connection."""
        self.lines.close()
        self.connection.close()

    def deliver(self, content: bytes = MESSAGE) -> None:
        """Send a message on a greeted connection."""
        assert self.say(b"EHLO device.test").startswith(b"250")
        assert self.say(b"MAIL FROM:<me@penstock.test>").startswith(b"250")
        assert self.say(b"RCPT TO:<you@penstock.test>").startswith(b"250")
        assert self.say(b"DATA").startswith(b"354")
        assert self.say(content + b".").startswith(b"250")
