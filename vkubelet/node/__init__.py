"""Being a node: certificates, registration, lease, status and conditions."""
