"""The command line.

`app` runs it, `commands` are thin over the package, `refusals` turns exceptions into one line.
"""
