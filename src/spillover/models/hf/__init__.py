"""The Hugging Face backend: one loaded base model, its adapters, training, decoding, reading, interventions."""
