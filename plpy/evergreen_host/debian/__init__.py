"""`evergreen setup`: installs the operating system's packages that Evergreen builds on."""
