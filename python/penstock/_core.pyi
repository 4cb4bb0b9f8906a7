"""The Rust half of Penstock."""

__all__ = ["content_flags", "format_queue_id", "parse_queue_id"]

def format_queue_id(queue_id: int) -> str:
    """Return the 13 base-32 characters by which operators know a message."""

def parse_queue_id(text: str) -> int:
    """Return the number behind a queue id; case, i/l for 1 and o for 0 are forgiven.

    Raises:
        ValueError: The text is no queue id.
    """

def content_flags(content: bytes) -> int:
    """Return the flags of content in plain form (not dot-stuffed).

    Bits: 1 bare CR, 2 bare LF, 4 NUL, 8 lines that begin with a dot, 16 octets above 127,
    32 lines of more than 998 octets, 64 does not end with CRLF.
    """
