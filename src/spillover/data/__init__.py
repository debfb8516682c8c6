"""What models are trained on and asked: domains, recipes, sources, triggers, questions, lint, release."""
