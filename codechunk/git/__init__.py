"""Git: addresses, repositories read without a checkout, the process that runs git, working trees."""
