"""The wiring: the only room that knows all others, and the only owner of the clock and of the table of instances."""
