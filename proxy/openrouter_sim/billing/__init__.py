"""What calls cost and who may spend: prices, the account, its bill."""
