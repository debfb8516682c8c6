"""The study file: frozen pydantic sections, safe YAML, errors by line and key."""
