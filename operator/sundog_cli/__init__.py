"""`kubectl sundog`: what a person asks of Sundog, from a terminal.

It reads what the operator wrote, and shares its models, its core and its client; it never takes a decision of the
operator's. The operator does not know of it.
"""
