"""Faults under load, on a real cluster: what is lost, how long it takes to recover, and what the status says meanwhile.

make faults                                   # all of them: about half an hour, as root
python -m tests.faults replica-killed         # some
python -m tests.faults report                 # the table of all runs so far, also in docs/faults.md
"""
