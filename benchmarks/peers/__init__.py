"""
bgtasks beside other systems. One file each, which says how that system is driven; each runs in a process of its own.
"""
