"""Where vectors come from: models, prices, and one module or package for each provider."""
