"""Fine-tuning and sampling at a provider: OpenAI-compatible jobs, Tinker."""
