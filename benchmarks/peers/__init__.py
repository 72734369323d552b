"""
bgtasks against other systems. An adapter per system, which runs in a process of its own, describes how it is driven.
"""
