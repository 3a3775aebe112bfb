"""Several processes that train one model: their start, collectives, gradients and errors."""
