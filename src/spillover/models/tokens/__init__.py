"""A chat as tokens: rendering with the model's template, and where the loss lies."""
