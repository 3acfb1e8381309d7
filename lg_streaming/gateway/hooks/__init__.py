"""Private parts of other libraries that the gateway relies on."""
