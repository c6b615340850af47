"""The status room: the status document, the journal of what happened, and the local HTTP endpoint."""
