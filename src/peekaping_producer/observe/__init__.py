"""What people see: log lines and the figures behind them."""
