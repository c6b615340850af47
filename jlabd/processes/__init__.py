"""Processes: starting one, watching it, ending everything it ever started, keeping what it writes."""
