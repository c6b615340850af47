"""`jlabctl doctor`: looks for what usually goes wrong on a machine, and says how to mend it. Changes nothing."""
