"""How fast and how heavy Sundog is: a real operator on a real API server, with pods that KWOK plays.

It measures from outside (the API server's own counters, the kernel's clocks, a watch of its own) and writes nothing
that the operator reads, but for the LLMDeployments.
"""
