"""What is kept outside the sites, and the schema of what is kept in them."""
