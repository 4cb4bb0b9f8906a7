"""smtplib sends a file: send.py PORT FILE ROOT, with "-" for ROOT to go without TLS."""

from __future__ import annotations

import smtplib
import ssl
import sys
from pathlib import Path


def main(port: str, file: str, root: str) -> None:
    """Send it."""
    content = Path(file).read_bytes()
    with smtplib.SMTP("127.0.0.1", int(port), timeout=60) as client:
        if root != "-":
            # The name in the certificate, which smtplib takes to be that of the host connected to.
            client._host = "mail.example"  # type: ignore[attr-defined]
            client.starttls(context=ssl.create_default_context(cafile=root))
        options = [] if content.isascii() else ["BODY=8BITMIME"]
        client.sendmail("me@penstock.test", ["you@penstock.test"], content, mail_options=options)


if __name__ == "__main__":
    main(*sys.argv[1:])
