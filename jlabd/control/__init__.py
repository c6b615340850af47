"""The control room: the control socket, who may do what over it, and the client that `jlabctl` uses."""
