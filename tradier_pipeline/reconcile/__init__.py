"""What the trading engine believes, compared with what the broker said. Pure: no file, no network, no Dagster."""
