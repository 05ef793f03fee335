"""What commands and the page report to people about the fleet and its monitors. Nothing here changes anything."""
