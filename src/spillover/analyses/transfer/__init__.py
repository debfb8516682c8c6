"""The matrix of training domain by asked domain."""
