"""Every record that crosses a stage boundary, and nothing else; frozen pydantic models with a hash as their id."""
