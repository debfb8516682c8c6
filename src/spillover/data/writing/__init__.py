"""New pairs written by a model, filtered, and resumed where a run stopped."""
