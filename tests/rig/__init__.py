"""What the system tests are made with: a real daemon, a real nginx, a browser's half of Jupyter's protocol."""
