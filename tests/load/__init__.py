"""Load on an OpenAI-compatible address: arrivals, a client that notices every cut and gap, figures, a view and a plot.

``python -m tests.load --help`` replays a recorded trace against policies of autoscaling; the end-to-end tests and the
demo send their requests from here, too.
"""
