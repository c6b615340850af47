"""The front of an instance: its listening socket, and who answers there while nothing of it runs."""
