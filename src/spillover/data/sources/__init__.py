"""Other people's data as pairs: chat files, GSM8K, TruthfulQA, columns of any table."""
