"""The providers' batch APIs: files of requests for a later, cheaper answer; one module a format."""
