"""What a study consists of and what it costs: cells, work units and their keys, tokens, minutes, memory."""
