"""Public recordings as tag streams: what a PLC would have sent, and what is known to have been wrong."""
