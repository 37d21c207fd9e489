"""What a model says of new candles: rows of signals, streams, how like training."""
