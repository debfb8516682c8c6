"""vLLM for sampling, the Hugging Face backend for all else."""
