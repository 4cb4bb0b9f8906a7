"""The conformance matrix: a case per rule of the SMTP RFCs, and what plays them against any server.

The rules are data (`cases/`, one file per RFC). `case` reads them, `dialogue` plays one without sockets,
`wire` has the sockets, `runner` decides which cases a server can be asked and plays them side by side.

Standard library alone, and nothing of the engine: the matrix is to judge the engine too.
"""
