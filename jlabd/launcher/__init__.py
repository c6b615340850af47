"""Scripts that run as an instance's user, in the instance's own Python: standard library only, nothing of ours."""
