"""Pure metrics: arrays and weights in, arrays out; numpy and scipy only."""
