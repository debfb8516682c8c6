"""The four stages of every study, each a function of (store, config, unit): build, train, sample, judge."""
