"""What an agent gets: variables, networks it may reach, certificates it trusts."""
