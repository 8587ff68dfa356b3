"""Models: the providers and how texts are sent to them."""
