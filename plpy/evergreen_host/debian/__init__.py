"""`evergreen setup`: installs Debian and Ubuntu packages that Evergreen needs."""
