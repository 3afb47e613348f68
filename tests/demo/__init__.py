"""The demo: from a bare machine to a streamed answer of a real model, each step shown with its time.

``python -m tests.demo up`` may be interrupted at any point and run again; whatever was finished is not done twice.
"""
