"""The one exception that a caller of the test cluster has to know."""


class ClusterError(Exception):
    """What went wrong with a cluster, in one sentence with its cause and its cure.

    The command line prints it as it stands; there is no traceback to read.
    """
