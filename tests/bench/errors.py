"""The one exception that the command line catches."""


class BenchError(Exception):
    """Something could not be measured; one sentence with its cause."""
