"""`evergreen demo`: Evergreen on real documents, in a temporary cluster, in a minute."""
