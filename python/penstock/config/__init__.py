"""The configuration: what may be written, where it is read from, and what is said of mistakes.

`loader.load` is the way in, `settings.Config` what comes out. Only the engine and the command line read it;
everything else is given plain values.
"""
