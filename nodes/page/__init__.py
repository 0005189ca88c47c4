"""The operator's page: what it shows, who may see and do what, and its REST face."""
