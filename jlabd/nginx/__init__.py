"""nginx: what it is told about the instances, and how that is put in force without ever breaking it."""
