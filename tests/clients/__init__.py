"""Real mail programs and libraries as clients of the real daemon: `python -m tests.clients` runs them all.

`catalogue` says how each is told to send a file, `servers` how Postfix and Exim are; `matrix` sends and
compares octet for octet; `programs` has what is asked of the libraries. Everything that has to be downloaded
comes by `make debian` and `make clients`, and what is not there is never counted as tried.
"""
