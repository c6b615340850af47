"""What people had before jlabd, as jlabd's own configuration: `jlabctl import`.

    files ──► one reader for each kind: text → findings ──► together: which findings are of one lab
                                                                        │
    TOML  ◄── judge: what would not pass becomes a comment ◄── settle: findings → keys of an instance

Readers are pure: they see texts, never files, and run nothing of what they read. Whatever they do not carry over they
say, with the place and the reason. Only `gather` opens files.
"""
