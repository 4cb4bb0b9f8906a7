"""What operators ask of a running daemon: HTTP/1.1 on a Unix socket, and metrics and health on TCP.

Nothing here knows the engine: what is answered comes from an object that offers `views.Views`. The API is
described in docs/control.md, whose tables of fields are compared with `views` by a test.
"""
