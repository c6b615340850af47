"""`jlabctl install-unit`: makes a jlabd that came by `pip install` a service of systemd, and takes that back."""
