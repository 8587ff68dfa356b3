"""`evergreen demo`: the whole story in a minute, in a throw-away cluster, over real documents."""
