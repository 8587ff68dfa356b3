"""What an operator looks at: status, metrics, doctor."""
