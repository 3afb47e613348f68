"""The one exception of the demo."""


class DemoError(Exception):
    """What went wrong, in one sentence with its cause and its cure; printed as it stands."""
